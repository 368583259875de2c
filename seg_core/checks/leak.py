"""Whether what is validated on was trained on: the same voxels, wherever they lie."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from seg_core.fingerprint import content
from seg_core.geometry import Box, Triple, triple
from seg_core.source import Source
from seg_core.verdicts import Verdict
from seg_core.volumes.ome_zarr import ZarrArray


@dataclass(frozen=True)
class Shared:
    """Voxels that two sources both hold.

    Attributes:
        train: name of the one.
        validate: name of the other.
        box: where they lie in the validation source's volume.
        voxels: how many they are; fewer than the box holds where only some sections are shared.
    """

    train: str
    validate: str
    box: Box
    voxels: int


def no_leak(train: list[Source], validate: list[Source], crop: Triple) -> Verdict:
    """No voxel is trained on and validated on: of one array, or of two with the same content.

    A validation source closer to a training source than half a crop passes, but is told: there
    the network saw the images (never the labels) that it is judged on.
    """
    pairs = list(product(train, validate))
    shared = [found for a, b in pairs if (found := _shared(a, b))]
    if shared:
        named = "; ".join(
            f"{s.train} and {s.validate} share {s.voxels} voxels of raw data ({s.box})"
            for s in shared
        )
        sentence = (
            f"{named}: scores on what was trained on say nothing; give train and validate ROIs "
            "that do not overlap"
        )
        return Verdict("no_leak", False, "error", sentence, _figures(shared))
    reach = [n // 2 for n in crop]
    gaps = [_gap(a.roi, b.roi) for a, b in pairs if _place(a.volume.raw) == _place(b.volume.raw)]
    near = [g for g in gaps if all(n < r for n, r in zip(g, reach, strict=True))]
    sentence = "no voxel is both trained on and validated on"
    if near:
        sentence += (
            f"; the nearest are {max(min(near, key=max))} voxels apart, less than half a crop "
            f"({reach}), so scores close to the border may flatter"
        )
    figures = _figures(shared) | {"half_crop": reach, "pairs_nearer_than_half_a_crop": len(near)}
    if gaps:
        figures["gap_voxels"] = list(min(gaps, key=max))
    return Verdict("no_leak", True, "error", sentence, figures)


def _figures(shared: list[Shared]) -> dict[str, Any]:
    return {
        "shared_voxels": sum(s.voxels for s in shared),
        "shared": [{**s.__dict__, "box": str(s.box)} for s in shared],
    }


def _place(array: ZarrArray) -> str:
    """The one name of an array, however it was written."""
    return array.uri if "://" in array.uri else str(Path(array.uri).resolve())


def _gap(a: Box, b: Box) -> Triple:
    """Voxels between two boxes along each axis."""
    sides = zip(a.begin, a.end, b.begin, b.end, strict=True)
    return triple([max(0, b0 - a1, a0 - b1) for a0, a1, b0, b1 in sides])


def _shared(train: Source, validate: Source) -> Shared | None:
    if _place(train.volume.raw) != _place(validate.volume.raw):
        return _same_sections(train, validate)
    box = train.roi.clip(validate.roi)
    return Shared(train.name, validate.name, box, box.voxels) if box.voxels else None


def _same_sections(train: Source, validate: Source) -> Shared | None:
    """Sections of equal content, at any z, within the y and x that both sources have.

    So a copy is found, and also a piece that was imported apart from its volume. Sections of one
    value say nothing: the margins of most volumes are alike.
    """
    flat = Box((0, *train.roi.begin[1:]), (1, *train.roi.end[1:]))
    window = flat.clip(Box((0, *validate.roi.begin[1:]), (1, *validate.roi.end[1:])))
    if not window.voxels:
        return None
    known = set(_sections(train, window).values())
    found = [z for z, digest in _sections(validate, window).items() if digest in known]
    if not found:
        return None
    box = Box((found[0], *window.begin[1:]), (found[-1] + 1, *window.end[1:]))
    return Shared(train.name, validate.name, box, len(found) * window.voxels)


def _sections(source: Source, window: Box) -> dict[int, str]:
    """A digest of every section that holds more than one value, by z."""
    box = Box(
        (source.roi.begin[0], *window.begin[1:]),
        (source.roi.end[0], *window.end[1:]),
    )
    digests = {}
    for slab in box.tiles((source.volume.raw.chunk[0], *box.shape[1:])):
        values = source.volume.raw.read(slab)
        for i in range(slab.shape[0]):
            section = values[..., i, :, :].astype(np.float64)  # whatever dtype the copy has
            if section.min() < section.max():
                digests[slab.begin[0] + i] = content(section)
    return digests
