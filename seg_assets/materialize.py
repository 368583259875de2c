"""All assets of a run through Dagster in this process, one dagster run after the other.

A backfill under `dagster dev` does the same, but its daemon looks every 30 seconds only.
"""

from collections.abc import Mapping, Sequence

import click
import dagster as dg
from dagster._core.definitions.observe import observe

from seg_assets.definitions import usable_volumes
from seg_assets.home import open_instance
from seg_assets.launcher import process_tag
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreResource
from seg_assets.sources import volume_sources
from seg_assets.training import training_assets
from seg_assets.volume import volume_assets
from seg_core.errors import SegError
from seg_core.run import load_run
from seg_core.store import Store
from seg_core.volumes.declared import load_volume

RESOURCES = {"store": StoreResource()}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialize_all(run: str, volumes: Sequence[str]) -> None:
    """Bring every asset of a run up to date, on the volumes named or else on all.

    Raises:
        SegError: there is no such run or volume, or a step failed.
        KeyboardInterrupt: Ctrl-C; all that is done is kept.
    """
    store = Store()
    load_run(store, run)
    named = [load_volume(store, name) for name in volumes] or usable_volumes(store)
    assets = [*training_assets(), *(asset for v in named for asset in volume_assets(v))]
    with open_instance() as instance:
        instance.add_dynamic_partitions(str(RUNS.name), [run])
        sources = [volume_sources(volume) for volume in named]
        observe(sources, run_config=QUIET, instance=instance, resources=RESOURCES)
        for number, asset in enumerate(assets, start=1):
            click.echo(f"[{number}/{len(assets)}] {asset.key.to_user_string()}", err=True)
            _materialize(asset, run, instance)


def _materialize(asset: dg.AssetsDefinition, run: str, instance: dg.DagsterInstance) -> None:
    by_block = isinstance(asset.partitions_def, dg.MultiPartitionsDefinition)
    result = dg.materialize(
        [asset],
        instance=instance,
        resources=RESOURCES,
        run_config=QUIET,
        partition_key=None if by_block else run,
        tags={**process_tag(), **(_all_blocks(asset, run) if by_block else {})},
        raise_on_error=False,
    )
    if not result.success:
        raise SegError(f"{asset.key.to_user_string()}: {_reason(result)}")


def _all_blocks(asset: dg.AssetsDefinition, run: str) -> Mapping[str, str]:
    """Tags that make one dagster run of a range of partitions."""
    assert isinstance(asset.partitions_def, dg.MultiPartitionsDefinition)
    blocks = asset.partitions_def.get_partitions_def_for_dimension("block").get_partition_keys()
    ends = {"start": blocks[0], "end": blocks[-1]}
    return {
        f"dagster/asset_partition_range_{end}": dg.MultiPartitionKey({"run": run, "block": block})
        for end, block in ends.items()
    }


def _reason(result: dg.ExecuteInProcessResult) -> str:
    """Why a step failed: our own sentence, or else the message of the error.

    Raises:
        KeyboardInterrupt: that is why.
    """
    events = result.get_step_failure_events()
    failure = events[0].step_failure_data if events else None
    if failure is None or failure.error is None:
        return "its dagster run failed before it began"
    if failure.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        raise KeyboardInterrupt
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return (failure.error.cause or failure.error).message.strip()
