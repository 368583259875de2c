"""Whether segments go on across the faces of blocks as they do inside."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.checks.measured import Figures
from seg_core.geometry import AXES, BlockGrid, Box, triple
from seg_core.verdicts import Verdict
from seg_core.volumes.ome_zarr import ZarrArray

TOLD, WRONG = 0.1, 0.3
"""Shares of the agreement inside that may be missing across faces: more is a warning, an error."""


def agreement(a: NDArray[Any], b: NDArray[Any]) -> list[int]:
    """Of neighbouring voxels of which at least one is in a segment: how many agree, how many."""
    either = (a > 0) | (b > 0)
    return [int(((a == b) & either).sum()), int(either.sum())]


def inside(labels: NDArray[Any]) -> dict[str, list[int]]:
    """The agreement of all neighbours along each axis of (z, y, x) labels."""
    found = {}
    for axis, name in enumerate(AXES):
        along = np.moveaxis(labels, axis, 0)
        found[name] = agreement(along[:-1], along[1:])
    return found


def across(array: ZarrArray, grid: BlockGrid, key: str, axis: int) -> Figures:
    """The agreement across the high face of a block along an axis."""
    box = grid.box(key)
    begin, end = list(box.begin), list(box.end)
    begin[axis] = box.end[axis] - 1
    low = Box(triple(begin), triple(end))
    high = low.shift([int(a == axis) for a in range(3)])
    return {"agree": agreement(array.read(low), array.read(high))}


def no_seams(blocks: Iterable[dict[str, list[int]]], faces: dict[str, list[list[int]]]) -> Verdict:
    """Across faces nearly as many pairs of neighbours agree as across planes inside.

    Args:
        blocks: for every block its agreement inside, by axis.
        faces: for every axis the agreement across each face.
    """
    within = list(blocks)
    figures: Figures = {"warning_above": TOLD, "error_above": WRONG}
    missing: dict[str, float] = {}
    for axis in AXES:
        inner, outer = _share([b[axis] for b in within]), _share(faces.get(axis, []))
        figures[axis] = {"inside": inner, "across_faces": outer, "faces": len(faces.get(axis, []))}
        if inner and outer is not None:
            missing[axis] = max(0.0, 1 - outer / inner)
    figures["missing"] = missing
    worst = max(missing.values(), default=0.0)
    said = ", ".join(f"{axis} {100 * share:.1f} %" for axis, share in missing.items())
    if worst <= TOLD:
        sentence = f"agreement missing across faces of blocks: {said or 'there are no faces'}"
        return Verdict("no_seams", True, "error", sentence, figures)
    sentence = (
        f"segments end at faces of blocks: {said} of the agreement inside is missing there; "
        "train longer, or lower the threshold, as a weak network binds nothing across a face"
    )
    return Verdict("no_seams", False, "error" if worst > WRONG else "warning", sentence, figures)


def _share(pairs: list[list[int]]) -> float | None:
    agree, all_ = (sum(p[i] for p in pairs) for i in (0, 1))
    return agree / all_ if all_ else None
