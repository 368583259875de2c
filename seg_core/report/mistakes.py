"""Where a segmentation of objects is wrong: which voxels are a split, which a merge.

Objects and segments are matched by the table of their overlaps: the best-matching segment of an
object is the one that holds most of its voxels, the best-matching object of a segment the one
that it holds most voxels of; of equal ones the smaller id. Id 0 is neither and matches nothing.

A voxel of an object that lies outside the object's best-matching segment is a *split*: cut off, or
missed. A voxel of a segment that lies outside the segment's best-matching object is a *merge*:
joined to what it does not belong to, or to nothing. A piece given to a neighbour is both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.contingency import Contingency, sizes
from seg_core.evaluate.pair_hash import Counts, Ids

RIGHT, SPLIT, MERGE, BOTH = range(4)
NAMES = ("right", "split", "merge", "both")


@dataclass(frozen=True)
class Matches:
    """The best match of every object and of every segment; all uint64, ids sorted."""

    objects: Ids
    best_segment: Ids
    segments: Ids
    best_object: Ids

    @classmethod
    def of(cls, table: Contingency) -> "Matches":
        """Match the segments (first) and objects (second ids) of a table."""
        segments, objects, voxels = table.pairs()
        kept = (segments > 0) & (objects > 0)
        segments, objects, voxels = segments[kept], objects[kept], voxels[kept]
        return cls(*_best(objects, segments, voxels), *_best(segments, objects, voxels))

    def segment_of(self, objects: NDArray[Any]) -> Ids:
        """Best-matching segment of each object; 0 where there is none."""
        return _look_up(self.objects, self.best_segment, objects)

    def object_of(self, segments: NDArray[Any]) -> Ids:
        """Best-matching object of each segment; 0 where there is none."""
        return _look_up(self.segments, self.best_object, segments)

    def kinds(self, segments: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.uint8]:
        """What voxels (or pairs) of these segments and objects are: RIGHT, SPLIT, MERGE, BOTH."""
        lost = (objects > 0) & ((segments == 0) | (self.segment_of(objects) != segments))
        joined = (segments > 0) & ((objects == 0) | (self.object_of(segments) != objects))
        return (SPLIT * lost + MERGE * joined).astype(np.uint8)


@dataclass(frozen=True)
class Pair:
    """An object in a segment where it should not be.

    Attributes:
        kind: SPLIT, MERGE or BOTH.
        object: 0 where the segment lies on no object.
        segment: 0 where the object was missed.
        voxels: that they share.
        share: of the object's voxels; of the segment's where there is no object.
    """

    kind: int
    object: int
    segment: int
    voxels: int
    share: float


def worst_pairs(table: Contingency, matches: Matches, count: int) -> list[Pair]:
    """The largest mistakes, of equal ones those of smaller ids first."""
    segments, objects, voxels = table.pairs()
    of_segment, of_object = (_totals(ids, voxels) for ids in (segments, objects))
    kinds = matches.kinds(segments, objects)
    wrong = np.flatnonzero(kinds)
    order = wrong[np.argsort(-voxels[wrong], kind="stable")][:count]
    wholes = np.where(objects > 0, of_object, of_segment)
    return [
        Pair(int(kinds[i]), int(objects[i]), int(segments[i]), int(voxels[i]),
             float(voxels[i] / wholes[i]))
        for i in order
    ]  # fmt: skip


def totals(table: Contingency, matches: Matches) -> dict[str, int]:
    """Voxels that are right, split, merge and both; those of no object and no segment are right."""
    segments, objects, voxels = table.pairs()
    sums = np.bincount(matches.kinds(segments, objects), voxels, minlength=len(NAMES))
    return {name: int(total) for name, total in zip(NAMES, sums, strict=True)}


def middle_of(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The voxel of a mask (z, y, x) that is nearest to its centre of mass; of equal ones the first.

    The mask must hold one.
    """
    voxels = np.argwhere(mask)
    away = np.square(voxels - voxels.mean(0)).sum(1)
    z, y, x = voxels[np.argmin(away)].tolist()
    return z, y, x


def _best(ids: Ids, others: Ids, voxels: Counts) -> tuple[Ids, Ids]:
    order = np.lexsort((others, -voxels, ids))
    distinct, first = np.unique(ids[order], return_index=True)
    return distinct, others[order][first]


def _look_up(ids: Ids, values: Ids, wanted: NDArray[Any]) -> Ids:
    if not ids.size:
        return np.zeros(wanted.shape, np.uint64)
    at = np.searchsorted(ids, wanted.astype(np.uint64)).clip(max=ids.size - 1)
    return np.where(ids[at] == wanted, values[at], np.uint64(0))


def _totals(ids: Ids, voxels: Counts) -> NDArray[np.float64]:
    index, whole = sizes(ids, voxels)
    return whole[index]
