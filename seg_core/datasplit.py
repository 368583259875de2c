"""1. Datasplit: what a run trains on and validates on, resolved, checked and fingerprinted."""

from typing import Any

import numpy as np

from seg_core.checks.datasplit import CHECKS, check_datasplit
from seg_core.errors import NotReady, SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.run import Run
from seg_core.source import Source, open_sources
from seg_core.verdicts import read_verdicts, refuse_blocked, write_verdicts
from seg_core.volumes.contents import Index
from seg_core.volumes.ome_zarr import ZarrArray
from seg_core.volumes.stamps import chunk_stamps, region_stamp

FILE = "datasplit.json"


def make_datasplit(run: Run) -> dict[str, Any]:
    """Resolve, check and fingerprint the datasplit, and write it; freezes the run.

    Verdicts of its checks are written too. While one of severity `error` fails, nothing else is,
    and the run stays free to be mended: `refuse_unfit` says what is wrong.

    Raises:
        SegError: a source is unusable (no such volume, shapes differ), or the data changed since
            the run was first used.
    """
    before = run.store.read_json(f"{run.folder}/{FILE}")
    if before is not None:
        _ = run.frozen
    sources, index = open_sources(run), contents_of(run)
    split: dict[str, Any] = {
        part: [_describe(run, source, index) for source in found] for part, found in sources.items()
    }
    split["channels"] = sources["train"][0].volume.raw.channels or 1
    split["normalize"] = _normalization(sources["train"])
    split["fingerprint"] = fingerprint(split)
    if before is not None and before["fingerprint"] != split["fingerprint"]:
        raise SegError(
            f"run {run.name}: the data changed since its datasplit was made "
            f"({_changed(before, split)}); a run is frozen once used: train on the new data "
            "under a new run name"
        )
    verdicts = check_datasplit(run)
    if before is None and not any(verdict.blocks for verdict in verdicts):
        _ = run.frozen
        run.store.write_json(f"{run.folder}/{FILE}", split)
    index.save()
    write_verdicts(run.store, run.folder, verdicts)
    return split


def refuse_unfit(run: Run) -> None:
    """Let no training start on a datasplit that failed a check when it was made.

    Raises:
        NotReady: it did; the check's sentence says how to mend it.
    """
    found = read_verdicts(run.store, run.folder)
    refuse_blocked(f"training of run {run.name}", [v for n, v in found.items() if n in CHECKS])


def read_datasplit(run: Run) -> dict[str, Any]:
    """The datasplit that was made.

    Raises:
        NotReady: none was.
    """
    split = run.store.read_json(f"{run.folder}/{FILE}")
    if split is None:
        raise NotReady(f"run {run.name} has no datasplit yet; make it with: seg train {run.name}")
    return dict(split)


def _describe(run: Run, source: Source, index: Index) -> dict[str, Any]:
    labels = source.labels.read(source.roi)
    ids, known = run.config.task.prepare(labels)
    objects = np.unique(ids[known & (ids > 0)])
    return {
        "volume": source.volume.name,
        "roi": str(source.roi),
        "shape": list(source.roi.shape),
        "voxel_size": list(source.volume.voxel_size),
        "weight": source.weight,
        "objects": len(objects),
        "labelled": float((ids > 0).mean()),
        "unknown": float(1 - known.mean()),
        "raw": indexed_content(index, source, source.volume.raw),
        "labels": indexed_content(index, source, source.labels),
    }


def contents_of(run: Run) -> Index:
    """Digests of the data of a run's sources, which are read again only where it was touched."""
    return Index(run.store, f"{run.folder}/contents.json")


def indexed_content(index: Index, source: Source, array: ZarrArray) -> str:
    """As `source_content`, but read only where a chunk of it was touched since."""
    stamp = region_stamp(array, chunk_stamps(array), source.roi)
    name = f"{source.name} of {array.uri} in {source.volume.config.block}"
    return index.digest(name, stamp, lambda: source_content(array, source))


def source_content(array: ZarrArray, source: Source) -> str:
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
