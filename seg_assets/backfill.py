"""One backfill of exactly what is failed, missing or stale of a run on a volume, over all assets.

Dagster's own dialog for several assets knows no "only failed and missing": it makes again what is
good. What is due stands in the store, so it is asked there, and each asset gets its own blocks.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.utils import make_new_backfill_id
from pydantic import Field

from seg_assets.failures import refusals
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam, StoreResource
from seg_assets.volume import volume_assets

if TYPE_CHECKING:
    from seg_core.run import Run
    from seg_core.states import Unfinished
    from seg_core.store import Store
    from seg_core.volumes.declared import Volume

TAG = "seg/backfill"
"""Tag of our backfills: which run on which volume they bring up to date."""


def tag_of(run: str, volume: str) -> dict[str, str]:
    """The tag of a backfill of a run on a volume."""
    return {TAG: f"{run} on {volume}"}


def start_backfill(
    instance: dg.DagsterInstance, run: "Run", volume: "Volume", due: "Unfinished", by: str
) -> str:
    """Hand a backfill of what is due to the daemon; returns its id.

    Args:
        instance: Dagster's records.
        run: the training run.
        volume: the volume.
        due: what is to be made.
        by: who starts it: `sensor` or `hand`.
    """
    instance.add_dynamic_partitions(str(RUNS.name), [run.name])
    family = dg.Definitions(assets=volume_assets(volume), resources={"store": StoreResource()})
    backfill_id = make_new_backfill_id()
    with partition_loading_context(dynamic_partitions_store=instance):
        backfill = PartitionBackfill.from_partitions_by_assets(
            backfill_id=backfill_id,
            asset_graph=family.resolve_asset_graph(),
            backfill_timestamp=time.time(),
            tags={**tag_of(run.name, volume.name), "seg/by": by},
            dynamic_partitions_store=instance,
            partitions_by_assets=list(_selected(run.name, volume, due)),
            title=f"What is due of {run.name} on {volume.name}",
            description=None,
            run_config=None,
        )
    instance.add_backfill(backfill)
    return backfill_id


class Segment(dg.Config):
    """What is brought up to date."""

    run: str = Field(description="Name of a validated run.")
    volume: str = Field(description="Name of a declared volume.")


@dg.op(name="start_backfill", out=dg.Out(dg.Nothing))
def _start(context: dg.OpExecutionContext, config: Segment, store: StoreParam) -> None:
    """Find what is due, and start its backfill."""
    with refusals():
        backfill = backfill_due(context.instance, store, config.run, config.volume)
    context.log.info(f"backfill {backfill} started" if backfill else "nothing is due")


def backfill_due(instance: dg.DagsterInstance, store: "Store", run: str, volume: str) -> str | None:
    """Start the backfill of what is due; its id, or None where nothing is.

    Raises:
        SegError: no such run or volume, or the run is not validated.
    """
    from seg_core.run import load_run
    from seg_core.states import unfinished
    from seg_core.volumes.declared import load_volume

    found, declared = load_run(store, run), load_volume(store, volume)
    due = unfinished(found, declared)
    return start_backfill(instance, found, declared, due, "hand") if due else None


@dg.job(
    name="segment_volume",
    executor_def=dg.in_process_executor,
    description="One backfill of exactly what is failed, missing or stale of a run on a volume, "
    "from prediction to report.",
)
def segment_volume() -> None:
    """One step."""
    _start()


def _selected(run: str, volume: "Volume", due: "Unfinished") -> Iterator[PartitionsByAssetSelector]:
    """The partitions of every asset that has some to make."""
    order = {key: number for number, key in enumerate(volume.grid)}
    for step, keys in due.blocks.items():
        if keys:
            ranges = [
                PartitionRangeSelector(_partition(run, first), _partition(run, last))
                for first, last in _spans(keys, order)
            ]
            yield PartitionsByAssetSelector(
                asset_key=dg.AssetKey([volume.name, step]), partitions=PartitionsSelector(ranges)
            )
    whole = PartitionsSelector([PartitionRangeSelector(run, run)])
    for step in due.whole:
        yield PartitionsByAssetSelector(
            asset_key=dg.AssetKey([volume.name, step]), partitions=whole
        )


def _partition(run: str, block: str) -> str:
    return dg.MultiPartitionKey({"run": run, "block": block})


def _spans(keys: Sequence[str], order: dict[str, int]) -> Iterator[tuple[str, str]]:
    """First and last key of every stretch of neighbours in the order of the grid."""
    first = last = keys[0]
    for key in keys[1:]:
        if order[key] != order[last] + 1:
            yield first, last
            first = key
        last = key
    yield first, last
