"""The sparse table of overlaps of a segmentation with ground truth, filled block by block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.evaluate.pair_hash import Counts, Ids, count_pairs, move_pairs

UIntArray = NDArray[np.unsignedinteger[Any]]
Mask = NDArray[np.bool_]

_CHUNK = 1 << 16  # voxels turned to uint64 at a time, so a block of uint8 is never copied whole


class Contingency:
    """How many voxels each segment shares with each label; all instance scores read it.

    The table is the same whatever blocks a volume is added in. It keeps every pair, those with id
    0 too: what to leave out is up to each score. Memory is some 100 bytes per pair of ids, however
    many voxels were added.
    """

    def __init__(self) -> None:
        self._pairs = 0
        self._keys, self._counts = _empty(2)

    def add(self, segmentation: UIntArray, labels: UIntArray, mask: Mask | None = None) -> None:
        """Count the voxels of one block.

        Args:
            segmentation: segment ids, any shape, any unsigned integer dtype.
            labels: ground truth ids, the same shape, any unsigned integer dtype.
            mask: boolean, the same shape; only voxels where it is True count. None: all do.

        Raises:
            SegError: the shapes differ, ids are not unsigned integers or the mask is not boolean.
        """
        _check(segmentation, labels, mask)
        arrays = [segmentation, labels] + ([] if mask is None else [mask])
        chunks = np.nditer(
            arrays,
            flags=["external_loop", "buffered", "zerosize_ok"],
            op_dtypes=[np.uint64, np.uint64, np.bool_][: len(arrays)],
            buffersize=_CHUNK,
        )
        for first, second, *inside in chunks:
            if inside:
                self._count(first[inside[0]], second[inside[0]])
            else:
                # nditer's own chunks may be strided or read-only: more kernels to compile
                self._count(first.copy(), second.copy())

    def pairs(self) -> tuple[Ids, Ids, Counts]:
        """Segment ids (uint64), label ids (uint64) and voxels (int64), each of shape (pairs,).

        Sorted by segment, then label; every pair appears once and has at least one voxel.
        """
        used = np.flatnonzero(self._counts)
        segments, labels = self._keys[used].T
        order = np.lexsort((labels, segments))
        return segments[order], labels[order], self._counts[used][order]

    def _count(self, first: Ids, second: Ids) -> None:
        self._reserve(self._pairs + first.size)
        self._pairs += count_pairs(self._keys, self._counts, first, second)

    def _reserve(self, pairs: int) -> None:
        """Keep the table at most half full with `pairs` in it; past that, probing gets long."""
        if 2 * pairs <= self._counts.size:
            return
        keys, counts = _empty(1 << (2 * pairs - 1).bit_length())
        move_pairs(self._keys, self._counts, keys, counts)
        self._keys, self._counts = keys, counts


def sizes(ids: Ids, voxels: Counts) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of pairs' ids: the index of each pair's id among the distinct ones, and their total voxels.

    Totals are float64, exact up to 2**53 voxels; their squares would overflow int64.
    """
    distinct, index = np.unique(ids, return_inverse=True)
    totals = np.bincount(index, weights=voxels, minlength=distinct.size)
    return index, totals.astype(np.float64, copy=False)


def _empty(capacity: int) -> tuple[Ids, Counts]:
    return np.zeros((capacity, 2), np.uint64), np.zeros(capacity, np.int64)


def _check(segmentation: UIntArray, labels: UIntArray, mask: Mask | None) -> None:
    if segmentation.shape != labels.shape:
        raise SegError(
            f"The segmentation has shape {segmentation.shape} and the labels {labels.shape}: "
            "they must be equal."
        )
    if segmentation.dtype.kind != "u" or labels.dtype.kind != "u":
        raise SegError(
            f"The segmentation is {segmentation.dtype} and the labels are {labels.dtype}: "
            "both must be unsigned integers."
        )
    if mask is not None and (mask.shape != labels.shape or mask.dtype != np.bool_):
        raise SegError(
            f"The mask is {mask.dtype} of shape {mask.shape}: it must be boolean of the labels' "
            f"shape {labels.shape}."
        )
