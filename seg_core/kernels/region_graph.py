"""The region graph: which fragments touch, and what the affinities between them say.

Every pair of voxels that an affinity relates, and that lies in two fragments, counts once for the
edge of these two. The sums are integers, so the edges of a volume are exactly the edges inside its
blocks plus those across the faces between them, in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.geometry import Triple, triple

Labels = NDArray[np.uint64] | NDArray[np.uint32]
# where the pairs lie: first voxel of the lower ones, first voxel of the upper ones, extent
_Window = tuple[Triple, Triple, Triple]

# of long affinities only those that say "rather different objects" are evidence
REPEL_BELOW = 128

# 2**64 / golden ratio: multiplying by it spreads keys over the high bits (Knuth, TAOCP 3, 6.4)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@dataclass(frozen=True)
class Edges:
    """Pairs of fragments that touch, sorted by (u, v); every array has one entry a pair.

    Attributes:
        u: uint64, the smaller label of the pair.
        v: uint64, the greater label.
        attract_sum: int64, sum of the uint8 affinities (255: surely one object) of direct pairs
            of voxels, those next to each other.
        attract_count: int64, number of these pairs.
        repel_sum: int64, sum of the uint8 affinities of long pairs that are below 128.
        repel_count: int64, number of these pairs.
    """

    u: NDArray[np.uint64]
    v: NDArray[np.uint64]
    attract_sum: NDArray[np.int64]
    attract_count: NDArray[np.int64]
    repel_sum: NDArray[np.int64]
    repel_count: NDArray[np.int64]

    @classmethod
    def empty(cls) -> "Edges":
        """No edge."""
        return cls.from_frame(pd.DataFrame({field.name: [] for field in fields(cls)}))

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "Edges":
        """The edges of a table that `to_frame` made."""
        ends = [frame[name].to_numpy(np.uint64) for name in ("u", "v")]
        return cls(*ends, *(frame[field.name].to_numpy(np.int64) for field in fields(cls)[2:]))

    def to_frame(self) -> pd.DataFrame:
        """A table of one row an edge, its columns named like the attributes."""
        return pd.DataFrame({field.name: getattr(self, field.name) for field in fields(self)})

    def __len__(self) -> int:
        return len(self.u)


def concatenate(parts: Sequence[Edges]) -> Edges:
    """All edges of `parts`, which may be in any order; what is said twice of a pair is added up."""
    if not sum(map(len, parts)):
        return Edges.empty()
    columns = [np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Edges)]
    order = np.lexsort((columns[1], columns[0]))
    u, v, *sums = (column[order] for column in columns)
    first = np.flatnonzero(np.r_[True, (u[1:] != u[:-1]) | (v[1:] != v[:-1])])
    return Edges(u[first], v[first], *(np.add.reduceat(column, first) for column in sums))


def edges_inside(
    labels: Labels, affinities: NDArray[np.uint8], offsets: Sequence[Sequence[int]]
) -> Edges:
    """The edges from all pairs of voxels inside one box. C-contiguous arrays are not copied.

    Args:
        labels: uint64 or uint32 (z, y, x), 0 is background and has no edge.
        affinities: uint8 (C, z, y, x), 255 = surely the same object; channel c relates voxel v
            to v + offsets[c].
        offsets: C times (z, y, x) in voxels, one of the three positive and the others 0. Where it
            is 1 the pair is direct and attracts; longer ones only repel.
    """
    windows: list[_Window] = []
    for offset in offsets:
        extent = triple([s - o for s, o in zip(labels.shape, offset, strict=True)])
        windows.append(((0, 0, 0), triple(offset), extent))
    return _collect(labels, affinities, labels, offsets, windows)


def edges_between(
    labels_low: Labels,
    affinities_low: NDArray[np.uint8],
    labels_high: Labels,
    axis: int,
    offsets: Sequence[Sequence[int]],
) -> Edges:
    """The edges from the pairs of voxels that cross the face between two boxes.

    A pair counts where v is in the lower slab and v + offset in the upper one, so slabs as thick
    as the longest offset along `axis` (or as their box, if that is thinner) give every pair.

    Args:
        labels_low: uint64 or uint32 (z, y, x), the slab at the high end of the lower box.
        affinities_low: uint8 (C, z, y, x), that slab's affinities, as in `edges_inside`.
        labels_high: the slab at the low end of the upper box, of the same dtype; only its
            thickness may differ.
        axis: the axis along which the boxes touch.
        offsets: as in `edges_inside`; those along other axes cross no face and are left out.
    """
    if np.delete(labels_low.shape, axis).tolist() != np.delete(labels_high.shape, axis).tolist():
        raise SegError(f"slabs {labels_low.shape}, {labels_high.shape}: give them one face")
    thick, upper = labels_low.shape[axis], labels_high.shape[axis]
    windows: list[_Window] = []
    for offset in offsets:
        low, high, extent = [0, 0, 0], [0, 0, 0], list(labels_low.shape)
        low[axis] = max(0, thick - offset[axis])
        high[axis] = low[axis] + offset[axis] - thick
        extent[axis] = min(thick, thick - offset[axis] + upper) - low[axis]
        windows.append((triple(low), triple(high), triple(extent)))
    return _collect(labels_low, affinities_low, labels_high, offsets, windows)


def _collect(
    low: Labels,
    affinities: NDArray[np.uint8],
    high: Labels,
    offsets: Sequence[Sequence[int]],
    windows: list[_Window],
) -> Edges:
    """Edges from the pairs of each channel's window; a window without a voxel has none."""
    _check(low, affinities, offsets)
    # one memory layout, so that the loop is compiled once a dtype
    lower, upper = np.ascontiguousarray(low), np.ascontiguousarray(high)
    affinities = np.ascontiguousarray(affinities)
    rows, filled = np.zeros((1024, 6), np.uint64), 0
    for channel, offset, window in zip(affinities, offsets, windows, strict=True):
        if min(window[2]) > 0:
            rows, filled = _scan(lower, upper, channel, window, sum(offset) == 1, rows, filled)
    rows = rows[rows[:, 0] != 0]
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    sums = [column.astype(np.int64) for column in rows.T[2:]]
    return Edges(rows[:, 0].copy(), rows[:, 1].copy(), *sums)


def _check(labels: Labels, affinities: NDArray[np.uint8], offsets: Sequence[Sequence[int]]) -> None:
    """Refuse arrays that do not fit each other, and offsets that say nothing of a direction."""
    if affinities.shape != (len(offsets), *labels.shape):
        raise SegError(
            f"affinities of shape {affinities.shape} do not fit labels of shape {labels.shape} "
            f"and {len(offsets)} offsets: give one channel an offset, over the labels' voxels"
        )
    for offset in offsets:
        if min(offset) < 0 or sum(map(bool, offset)) != 1:
            raise SegError(f"offset {tuple(offset)}: give one positive entry and two zeros")


@njit(cache=True)
def _scan(
    low: NDArray[Any],
    high: NDArray[Any],
    affinities: NDArray[np.uint8],
    window: _Window,
    direct: bool,
    rows: NDArray[np.uint64],
    filled: int,
) -> tuple[NDArray[np.uint64], int]:
    """Add a window's pairs of voxels to an open-addressing hash; it is returned, perhaps grown.

    A row of the hash is an edge in the order of `Edges`; u = 0 marks an empty one.
    """
    (lz, ly, lx), (hz, hy, hx), (nz, ny, nx) = window
    for z in range(nz):
        for y in range(ny):
            # room for a whole line's pairs, so that the loop over it need not look
            while 2 * (filled + nx) > len(rows):
                rows = _grow(rows)
            ours = low[lz + z, ly + y, lx : lx + nx]
            theirs = high[hz + z, hy + y, hx : hx + nx]
            values = affinities[lz + z, ly + y, lx : lx + nx]
            filled += _scan_line(ours, theirs, values, direct, rows)
    return rows, filled


@njit(cache=True)
def _scan_line(
    ours: NDArray[Any],
    theirs: NDArray[Any],
    values: NDArray[np.uint8],
    direct: bool,
    rows: NDArray[np.uint64],
) -> int:
    """Add a line's pairs of voxels to the hash; returns how many edges are new."""
    column, limit = (2, 256) if direct else (4, REPEL_BELOW)
    slot, new = np.int64(0), 0
    for x in range(len(ours)):
        a, b = np.uint64(ours[x]), np.uint64(theirs[x])
        if a == b or not a or not b or values[x] >= limit:
            continue
        u, v = min(a, b), max(a, b)
        # the pair of the voxel before is mostly this one's too
        if rows[slot, 0] != u or rows[slot, 1] != v:
            slot = _find(rows, u, v)
            if rows[slot, 0] == 0:
                new += 1
                rows[slot, 0], rows[slot, 1] = u, v
        rows[slot, column] += np.uint64(values[x])
        rows[slot, column + 1] += np.uint64(1)
    return new


@njit(cache=True)
def _find(rows: NDArray[np.uint64], u: np.uint64, v: np.uint64) -> np.int64:
    """The row that holds a pair, or the empty one where it belongs."""
    spread = ((u * _SPREAD) ^ v) * _SPREAD
    # a third round, because the others leave out a label's highest bits
    spread = (spread ^ (spread >> _HALF)) * _SPREAD
    slot = np.int64(spread >> _HALF) & (len(rows) - 1)
    while rows[slot, 0] != 0 and (rows[slot, 0] != u or rows[slot, 1] != v):
        slot = (slot + 1) & (len(rows) - 1)
    return slot


@njit(cache=True)
def _grow(rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same hash with four times the rows."""
    grown = np.zeros((4 * len(rows), 6), np.uint64)
    for i in range(len(rows)):
        if rows[i, 0] != 0:
            grown[_find(grown, rows[i, 0], rows[i, 1])] = rows[i]
    return grown
