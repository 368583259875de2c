"""One backfill of exactly what is failed, missing or stale of a run on a volume, over all assets.

Dagster's own dialog for several assets knows no "only failed and missing": it makes again what is
good. What is due stands in the store, so it is asked there, and each asset gets its own blocks.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.utils import make_new_backfill_id
from pydantic import Field

from seg_assets.failures import refusals
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam, StoreResource
from seg_assets.volume import volume_assets
from seg_core.errors import Busy
from seg_core.fingerprint import fingerprint

if TYPE_CHECKING:
    from seg_core.run import Run
    from seg_core.states import Unfinished
    from seg_core.store import Store
    from seg_core.volumes.declared import Volume

TAG, DUE_TAG = "seg/backfill", "seg/due"
"""Tags of our backfills: which run on which volume they bring up to date, and what was due."""
NEAR = 8
"""Blocks between two that are due which are asked for too, and passed over: every stretch is a
dagster run of its own, which loads the model and looks at all of the volume."""


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
            tags={**_tags(run.name, volume.name, due), "seg/by": by},
            dynamic_partitions_store=instance,
            partitions_by_assets=list(_selected(run.name, volume, due)),
            title=f"What is due of {run.name} on {volume.name}",
            description=None,
            run_config=None,
        )
    instance.add_backfill(backfill)
    return backfill_id


def _tags(run: str, volume: str, due: "Unfinished") -> dict[str, str]:
    return {TAG: f"{run} on {volume}", DUE_TAG: fingerprint(due.blocks, due.whole)}


def started_before(instance: dg.DagsterInstance, run: str, volume: str, due: "Unfinished") -> int:
    """How many backfills of exactly this were started: each of them left it as it was."""
    filters = BulkActionsFilter(tags=_tags(run, volume, due))
    return len(instance.get_backfills(filters=filters))


def at_work(instance: dg.DagsterInstance, run: str, volume: str) -> bool:
    """Whether a backfill or a dagster run of this run on this volume has not ended."""
    going_on = [s for s in BulkActionStatus if s not in BULK_ACTION_TERMINAL_STATUSES]
    backfills = instance.get_backfills(filters=BulkActionsFilter(statuses=going_on))
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return any(_backfills(b, run, volume) for b in backfills) or any(
        _makes(r, run, volume) for r in runs
    )


def _backfills(backfill: PartitionBackfill, run: str, volume: str) -> bool:
    data = backfill.asset_backfill_data
    targets = data.target_subset.partitions_subsets_by_asset_key if data else {}
    return any(
        key.path[0] == volume and any(_run_of(p) == run for p in subset.get_partition_keys())
        for key, subset in targets.items()
    )


def _makes(found: dg.DagsterRun, run: str, volume: str) -> bool:
    tags = ("partition", "asset_partition_range_start", "asset_partition_range_end")
    partitions = [p for tag in tags if (p := found.tags.get(f"dagster/{tag}"))]
    return any(asset.path[0] == volume for asset in found.asset_selection or ()) and any(
        _run_of(partition) == run for partition in partitions
    )


def _run_of(partition: str) -> str:
    """The run of a partition key: `block|run`, or the run alone."""
    return partition.rpartition("|")[2]


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
        Busy: a backfill or a dagster run of it has not ended.
    """
    from seg_core.run import load_run
    from seg_core.states import unfinished
    from seg_core.volumes.declared import load_volume

    found, declared = load_run(store, run), load_volume(store, volume)
    if at_work(instance, run, volume):
        raise Busy(f"{run} on {volume} is being made; wait for the end of that, or cancel it first")
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
    grid, never = list(volume.grid), {k for of in due.given_up.values() for k in of}
    for step, keys in due.blocks.items():
        if keys:
            ranges = [
                PartitionRangeSelector(_partition(run, first), _partition(run, last))
                for first, last in _spans(keys, grid, never)
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


def _spans(
    keys: Sequence[str], grid: Sequence[str], never: Collection[str]
) -> Iterator[tuple[str, str]]:
    """First and last key of every stretch of blocks that are near in the order of the grid.

    Args:
        keys: what is due, in the order of the grid.
        grid: all keys.
        never: keys that no stretch may hold: they failed too often.
    """
    order = {key: number for number, key in enumerate(grid)}
    first = last = keys[0]
    for key in keys[1:]:
        between = grid[order[last] + 1 : order[key]]
        if len(between) > NEAR or any(k in never for k in between):
            yield first, last
            first = key
        last = key
    yield first, last
