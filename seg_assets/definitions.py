"""The table of contents: everything that Dagster serves.

Volumes are read when this is loaded: after declaring one, reload the code location.
"""

import logging

import dagster as dg

from seg_assets import automation, training
from seg_assets.new_run import new_run_job
from seg_assets.resources import StoreResource
from seg_assets.volume import group_of, volume_assets
from seg_core.errors import SegError
from seg_core.store import Store
from seg_core.volumes.declared import load_volume, volume_names

LOG = logging.getLogger(__name__)


def definitions_of(uri: str | None = None) -> dg.Definitions:
    """All definitions for a store."""
    return dg.Definitions(
        assets=[
            training.datasplit,
            training.checkpoint,
            training.validation_scores,
            *families(Store(uri)),
        ],
        sensors=[automation.register_runs],
        jobs=[automation.train_run, new_run_job],
        resources={"store": StoreResource(uri=uri)},
        # a dagster run is one step as a rule: a process of its own would import torch once more
        executor=dg.in_process_executor,
    )


def families(store: Store) -> list[dg.AssetsDefinition]:
    """The assets of every usable volume; one that is broken takes away only itself."""
    found: dict[str, list[dg.AssetsDefinition]] = {}
    for name in volume_names(store):
        try:
            if group_of(name) in found:
                raise SegError(f"Dagster cannot tell it from volume {group_of(name)}: rename it")
            found[group_of(name)] = volume_assets(load_volume(store, name))
        except Exception as error:  # whatever it is, the other volumes are served
            LOG.warning("volume %s is left out of the assets: %s", name, error)
    return [asset for family in found.values() for asset in family]


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` loads."""
    return definitions_of()
