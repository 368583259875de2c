"""A hash table that counts pairs of ids: open addressing, linear probing, no deletion.

`keys` is uint64 (capacity, 2), `counts` int64 (capacity,), capacity a power of two; a slot with
count 0 is free. The kernels never grow the table: the caller keeps it at most half full.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]
Counts = NDArray[np.int64]

# Multipliers and shift of splitmix64 (Steele, Lea, Flood 2014): consecutive ids must not cluster.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(31)


@numba.njit(cache=True, nogil=True)
def _slot(keys: Ids, counts: Counts, first: np.uint64, second: np.uint64) -> int:
    """The slot that holds the pair, or the free one where it belongs."""
    mixed = (first * _GOLDEN) ^ second
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
    mixed = mixed ^ (mixed >> _SHIFT)
    last = counts.size - 1
    slot = np.int64(mixed) & last
    while counts[slot] != 0 and (keys[slot, 0] != first or keys[slot, 1] != second):
        slot = (slot + 1) & last
    return int(slot)


@numba.njit(cache=True, nogil=True)
def _put(keys: Ids, counts: Counts, first: np.uint64, second: np.uint64, amount: int) -> int:
    """Add `amount` to the pair; 1 if the pair is new, else 0."""
    slot = _slot(keys, counts, first, second)
    new = 1 if counts[slot] == 0 else 0
    keys[slot, 0] = first
    keys[slot, 1] = second
    counts[slot] += amount
    return new


@numba.njit(cache=True, nogil=True)
def count_pairs(keys: Ids, counts: Counts, first: Ids, second: Ids) -> int:
    """Count the pairs of two 1-D arrays of equal length; the number of pairs that were new.

    Neighbours along a row mostly agree, so only each run of equal pairs goes through the table.
    """
    new = 0
    start = 0
    for i in range(1, first.size + 1):
        if i == first.size or first[i] != first[start] or second[i] != second[start]:
            new += _put(keys, counts, first[start], second[start], i - start)
            start = i
    return new


@numba.njit(cache=True, nogil=True)
def move_pairs(keys: Ids, counts: Counts, new_keys: Ids, new_counts: Counts) -> None:
    """Put every pair of one table into another, larger one."""
    for slot in range(counts.size):
        if counts[slot] != 0:
            _put(new_keys, new_counts, keys[slot, 0], keys[slot, 1], counts[slot])
