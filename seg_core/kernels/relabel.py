"""Give every voxel of a segmentation another label: through a table, or numbered 1 to n."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_core.errors import SegError

Labels = NDArray[np.uint64] | NDArray[np.uint32]

# 2**64 / golden ratio: multiplying by it spreads keys over the high bits (Knuth, TAOCP 3, 6.4)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_PIECE = 1024


def relabel(labels: Labels, table: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Look every voxel's label up in a table.

    Args:
        labels: uint64 or uint32 (z, y, x).
        table: uint64 (n + 1,), the new label of each old one; entry 0 is the background's.

    Returns:
        `table[labels]`, uint64 (z, y, x).

    Raises:
        SegError: a label is greater than n.
    """
    new = np.empty(labels.size, np.uint64)
    done = _look_up(labels.ravel(), np.asarray(table, np.uint64), new)
    if done < labels.size:
        raise SegError(
            f"label {labels.flat[done]} is not in the table, which ends at {len(table) - 1}: "
            "make the table again from these labels"
        )
    return new.reshape(labels.shape)


def compact(labels: Labels) -> tuple[NDArray[np.uint64], int]:
    """Number the labels 1 to n in the order in which they first appear, voxels in C order.

    Args:
        labels: uint64 or uint32 (z, y, x), 0 is background and stays so.

    Returns:
        The new labels, uint64 (z, y, x), and n.
    """
    new = np.empty(labels.size, np.uint64)
    count = _number(labels.ravel(), new)
    return new.reshape(labels.shape), int(count)


@njit(cache=True)
def _look_up(labels: NDArray[Any], table: NDArray[np.uint64], new: NDArray[np.uint64]) -> int:
    """Fill `new`, 1-D, up to the first label beyond the table; returns how far it came."""
    if len(table) == 0:
        return 0
    last, value = np.uint64(0), table[0]
    for i in range(len(labels)):
        label = np.uint64(labels[i])
        # neighbours along x mostly have one label, so the table is read once a run
        if label != last:
            if label >= np.uint64(len(table)):
                return i
            last, value = label, table[label]
        new[i] = value
    return len(labels)


@njit(cache=True)
def _number(labels: NDArray[Any], new: NDArray[np.uint64]) -> int:
    """Fill `new`, 1-D, by an open-addressing hash of (old, new) rows; returns the last number."""
    rows = np.zeros((4 * _PIECE, 2), np.uint64)
    count = 0
    for begin in range(0, len(labels), _PIECE):
        # room for a whole piece's labels, so that the loop over it need not look
        if 2 * (count + _PIECE) > len(rows):
            rows = _grow(rows)
        piece = slice(begin, begin + _PIECE)
        count = _number_piece(labels[piece], new[piece], rows, count)
    return count


@njit(cache=True)
def _number_piece(
    labels: NDArray[Any], new: NDArray[np.uint64], rows: NDArray[np.uint64], count: int
) -> int:
    """The same for some of the voxels; label 0 marks an empty row, and is never looked up."""
    last, value = np.uint64(0), np.uint64(0)
    for i in range(len(labels)):
        label = np.uint64(labels[i])
        if label != last:
            last, value = label, np.uint64(0)
            if label != 0:
                slot = _find(rows, label)
                if rows[slot, 0] == 0:
                    count += 1
                    rows[slot, 0], rows[slot, 1] = label, np.uint64(count)
                value = rows[slot, 1]
        new[i] = value
    return count


@njit(cache=True)
def _find(rows: NDArray[np.uint64], label: np.uint64) -> np.int64:
    """The row that holds a label, or the empty one where it belongs."""
    spread = label * _SPREAD
    # a second round, because the first leaves out a label's highest bits
    spread = (spread ^ (spread >> _HALF)) * _SPREAD
    slot = np.int64(spread >> _HALF) & (len(rows) - 1)
    while rows[slot, 0] != label and rows[slot, 0] != 0:
        slot = (slot + 1) & (len(rows) - 1)
    return slot


@njit(cache=True)
def _grow(rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same hash with four times the rows."""
    grown = np.zeros((4 * len(rows), 2), np.uint64)
    for i in range(len(rows)):
        if rows[i, 0] != 0:
            grown[_find(grown, rows[i, 0])] = rows[i]
    return grown
