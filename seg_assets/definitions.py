"""The table of contents: everything that Dagster serves.

Volumes are read when this is loaded: after declaring one, reload the code location.
"""

import logging

import dagster as dg

from seg_assets.automation import backfill_failed_blocks, register_runs
from seg_assets.backfill import segment_volume
from seg_assets.executor import executor
from seg_assets.messages import tell_ended_backfills, tell_failed_retraining
from seg_assets.new_run import new_run_job
from seg_assets.partitions import group_of
from seg_assets.promotion import promotion, retrain_run, retrain_schedule, roll_back_job
from seg_assets.removal import remove_run
from seg_assets.resources import StoreResource
from seg_assets.sources import observation, source_keys, volume_sources
from seg_assets.training import train_run, training_assets
from seg_assets.volume import volume_assets
from seg_core.errors import SegError
from seg_core.store import Store
from seg_core.volumes.declared import Volume, load_volume, volume_names

LOG = logging.getLogger(__name__)


def definitions_of(uri: str | None = None) -> dg.Definitions:
    """All definitions for a store."""
    store = Store(uri)
    volumes = usable_volumes(store)
    sources = [key for volume in volumes for key in source_keys(volume)]
    return dg.Definitions(
        assets=[
            *training_assets(sources),
            promotion,
            *(volume_sources(volume) for volume in volumes),
            *(asset for volume in volumes for asset in volume_assets(volume)),
        ],
        sensors=[
            register_runs,
            backfill_failed_blocks,
            tell_ended_backfills,
            tell_failed_retraining,
        ],
        schedules=[retrain_schedule(store), *observation(sources)],
        jobs=[
            train_run,
            retrain_run,
            roll_back_job,
            remove_run,
            segment_volume,
            new_run_job(volumes),
        ],
        resources={"store": StoreResource(uri=uri)},
        executor=executor(),
    )


def usable_volumes(store: Store) -> list[Volume]:
    """Every declared volume; one that is broken takes away only itself."""
    found: dict[str, Volume] = {}
    for name in volume_names(store):
        try:
            if group_of(name) in found:
                raise SegError(f"Dagster cannot tell it from volume {group_of(name)}: rename it")
            volume = load_volume(store, name)
            _ = volume.grid, volume.labels
            found[group_of(name)] = volume
        except Exception as error:  # whatever it is, the other volumes are served
            LOG.warning("volume %s is left out of the assets: %s", name, error)
    return list(found.values())


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` loads."""
    return definitions_of()
