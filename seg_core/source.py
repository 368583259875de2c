"""A source: a part of a volume with labels, which a run trains on or validates on."""

from dataclasses import dataclass

from seg_core.errors import SegError
from seg_core.geometry import Box, parse_box
from seg_core.run import Run, SourceConfig
from seg_core.volumes.declared import Volume, load_volume
from seg_core.volumes.ome_zarr import ZarrArray


@dataclass(frozen=True)
class Source:
    """A part of a volume with labels."""

    volume: Volume
    labels: ZarrArray
    roi: Box
    weight: int

    @property
    def name(self) -> str:
        """How scores and messages call it: `fib25[160:190, 0:250, 0:250]`."""
        return f"{self.volume.name}[{self.roi}]"


def open_source(run: Run, config: SourceConfig) -> Source:
    """Open a part of a volume.

    Raises:
        SegError: the volume is not declared or has no labels, or the ROI lies outside.
    """
    volume = load_volume(run.store, config.volume)
    if volume.labels is None:
        raise SegError(
            f"run {run.name}: volume {config.volume} has no labels to learn from; name "
            f"them in volumes/{config.volume}.yaml"
        )
    _ = volume.voxel_size
    try:
        roi = parse_box(config.roi, volume.raw.box) if config.roi else volume.roi
    except SegError as error:
        raise SegError(f"run {run.name}: volume {config.volume}: {error}") from None
    return Source(volume, volume.labels, roi, config.weight)


def open_sources(run: Run) -> dict[str, list[Source]]:
    """What a run trains on (`train`) and validates on (`validate`), by its file.

    Raises:
        SegError: as `open_source`.
    """
    split = run.config.datasplit
    return {
        "train": [open_source(run, c) for c in split.train],
        "validate": [open_source(run, c) for c in split.validate_],
    }
