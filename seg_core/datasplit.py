"""1. Datasplit: what a run trains on and validates on, resolved, checked and fingerprinted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seg_core.errors import NotReady, SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box, parse_box
from seg_core.run import Run, SourceConfig
from seg_core.volumes.declared import Volume, load_volume
from seg_core.volumes.ome_zarr import ZarrArray

FILE = "datasplit.json"


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


def check_sources(run: Run) -> None:
    """Refuse a run whose volumes are not there, before it is added.

    Raises:
        SegError: a volume is not declared or has no labels, or a ROI lies outside.
    """
    for config in (*run.config.datasplit.train, *run.config.datasplit.validate_):
        open_source(run, config)


def make_datasplit(run: Run) -> dict[str, Any]:
    """Resolve, check and fingerprint the datasplit, and write it; freezes the run.

    Raises:
        SegError: a source is unusable (no such volume, shapes differ, no object in its labels),
            or the data changed since the run was first used.
    """
    sources = {
        "train": [open_source(run, c) for c in run.config.datasplit.train],
        "validate": [open_source(run, c) for c in run.config.datasplit.validate_],
    }
    channels = {s.volume.raw.channels or 1 for part in sources.values() for s in part}
    if len(channels) > 1:
        raise SegError(f"run {run.name}: its volumes differ in channels: {sorted(channels)}")
    split: dict[str, Any] = {
        part: [_describe(run, source) for source in found] for part, found in sources.items()
    }
    split["channels"] = channels.pop()
    split["normalize"] = _normalization(sources["train"])
    split["fingerprint"] = fingerprint(split)
    before = run.store.read_json(f"{run.folder}/{FILE}")
    if before is not None and before["fingerprint"] != split["fingerprint"]:
        raise SegError(
            f"run {run.name}: the data changed since its datasplit was made "
            f"({_changed(before, split)}); a run is frozen once used: train on the new data "
            "under a new run name"
        )
    _ = run.frozen
    if before is None:
        run.store.write_json(f"{run.folder}/{FILE}", split)
    return split


def read_datasplit(run: Run) -> dict[str, Any]:
    """The datasplit that was made.

    Raises:
        NotReady: none was.
    """
    split = run.store.read_json(f"{run.folder}/{FILE}")
    if split is None:
        raise NotReady(f"run {run.name} has no datasplit yet; make it with: seg train {run.name}")
    return dict(split)


def _describe(run: Run, source: Source) -> dict[str, Any]:
    labels = source.labels.read(source.roi)
    ids, known = run.config.task.prepare(labels)
    objects = np.unique(ids[known & (ids > 0)])
    if len(objects) == 0:
        raise SegError(f"run {run.name}: {source.name} has labels with no object in them")
    return {
        "volume": source.volume.name,
        "roi": str(source.roi),
        "shape": list(source.roi.shape),
        "voxel_size": list(source.volume.voxel_size),
        "weight": source.weight,
        "objects": len(objects),
        "labelled": float((ids > 0).mean()),
        "unknown": float(1 - known.mean()),
        "raw": _content(source.volume.raw, source),
        "labels": _content(source.labels, source),
    }


def _content(array: ZarrArray, source: Source) -> str:
    """A digest of the voxels themselves: equal data trains to equal weights wherever it lies."""
    pieces = source.roi.tiles(source.volume.config.block)
    return fingerprint([content(array.read(piece)) for piece in pieces])


def _normalization(sources: list[Source]) -> dict[str, float]:
    """Mean and standard deviation of the training images, all voxels alike."""
    count, total, squares = 0, 0.0, 0.0
    for source in sources:
        for piece in source.roi.tiles(source.volume.config.block):
            values = source.volume.raw.read(piece).astype(np.float64)
            count, total = count + values.size, total + values.sum()
            squares += np.square(values).sum()
    if not np.isfinite(squares):
        raise SegError("the images to train on have voxels that are no finite numbers")
    mean = total / count
    return {"mean": mean, "std": max(1e-6, float(np.sqrt(squares / count - mean**2)))}


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [
        f"{a['volume']}: {key}"
        for part in ("train", "validate")
        for a, b in zip(before[part], now[part], strict=False)
        for key in a
        if a[key] != b.get(key)
    ]
    return ", ".join(names) or "other sources"
