"""Raw volumes and label volumes as observed sources, whose data versions the lineage shows."""

from collections.abc import Iterator

import dagster as dg

from seg_assets.beta import unwarned
from seg_assets.partitions import group_of
from seg_assets.resources import StoreParam
from seg_assets.training import OWNERS
from seg_core.volumes.declared import Volume

SOURCES = {"raw": "The image.", "labels": "Its ground truth."}


def source_keys(volume: Volume) -> list[dg.AssetKey]:
    """Keys of a volume's raw data and, where it has them, of its labels."""
    names = [n for n in SOURCES if n == "raw" or volume.config.labels is not None]
    return [dg.AssetKey([volume.name, name]) for name in names]


@unwarned()
def volume_sources(volume: Volume) -> dg.AssetsDefinition:
    """The sources of a volume; observing them reads no voxel, only the list of their files."""
    specs = [
        dg.AssetSpec(
            key,
            group_name=group_of(volume.name),
            owners=OWNERS,
            kinds={"zarr"},
            description=f"{SOURCES[key.path[-1]]} Observed, never written by an asset.",
        )
        for key in source_keys(volume)
    ]

    def observe(context: dg.AssetExecutionContext, store: StoreParam) -> Iterator[dg.ObserveResult]:
        for key in sorted(context.selected_asset_keys):
            yield observed(store, volume.name, key)

    name = f"{group_of(volume.name)}__sources"
    asset: dg.AssetsDefinition = dg.multi_observable_source_asset(
        specs=specs, name=name, can_subset=True
    )(observe)
    return asset


def observed(store: StoreParam, volume: str, key: dg.AssetKey) -> dg.ObserveResult:
    """What a source is now: its data version changes when one of its files was written."""
    from seg_core.fingerprint import fingerprint
    from seg_core.volumes.declared import load_volume
    from seg_core.volumes.stamps import chunk_stamps

    declared = load_volume(store, volume)
    array = declared.raw if key.path[-1] == "raw" else declared.labels
    assert array is not None
    stamps = chunk_stamps(array)
    return dg.ObserveResult(
        asset_key=key,
        data_version=dg.DataVersion(fingerprint(sorted(stamps.items()))),
        metadata={
            "file": dg.MetadataValue.path(array.uri),
            "shape": str(array.box.shape),
            "dtype": array.dtype,
            "voxel size (nm)": str(array.voxel_size),
            "voxels": array.box.voxels,
            "chunks": len(stamps),
        },
    )


def observation(keys: list[dg.AssetKey]) -> list[dg.ScheduleDefinition]:
    """A look at all sources every night; none where there is no volume."""
    if not keys:
        return []
    about = "Looks whether raw data or labels were written since."
    job = dg.define_asset_job("observe_volumes", dg.AssetSelection.assets(*keys), description=about)
    return [
        dg.ScheduleDefinition(
            name="observe_volumes",
            job=job,
            cron_schedule="0 2 * * *",
            description=about,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
    ]
