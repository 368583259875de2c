"""Ids of fragments and names of segments over the life of a volume: given once, never used twice.

At first fragments are numbered by a prefix sum over the blocks, and a segment is named after its
smallest fragment. A block whose fragments changed gets a fresh range after all others, and a
segment keeps its name as long as it holds most of its former fragments; any other gets a fresh
one. So what one block changes stays near it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seg_core.fingerprint import DIGEST


@dataclass(frozen=True)
class Range:
    """The ids base + 1 to base + count of a block's fragments, and what these were.

    Attributes:
        base: one less than the block's first id.
        count: number of fragments.
        content: digest of the block's fragments: first of their voxels, then of their edges.
    """

    base: int
    count: int
    content: str

    def same_voxels(self, content: str) -> bool:
        """Whether a digest is that of fragments with the same voxels, whatever their edges."""
        return self.content[:DIGEST] == content[:DIGEST]


def give_ranges(
    found: dict[str, tuple[int, str]], before: dict[str, Range], following: int
) -> tuple[dict[str, Range], int]:
    """Ranges for all blocks, and the id that nobody has had yet.

    Args:
        found: count and digest of every block's fragments, blocks in C order.
        before: ranges of the table before.
        following: the first id never used, 1 at first.
    """
    ranges = {}
    for key, (count, digest) in found.items():
        old = before.get(key)
        if old is not None and old.same_voxels(digest):
            ranges[key] = replace(old, content=digest)
        else:
            ranges[key] = Range(following - 1, count, digest)
            following += count
    return ranges, following


def give_names(
    clusters: NDArray[np.uint64],
    ids: NDArray[np.uint64],
    before: NDArray[np.uint64] | None,
    following: int,
) -> tuple[NDArray[np.uint64], int]:
    """Name the segment of every fragment.

    Args:
        clusters: (n,), any number for each fragment's segment; 0 for those in none.
        ids: (n,), the fragments' ids.
        before: (n,), name of each fragment's segment in the table before, 0 for a new fragment;
            None for the first table.
        following: the first id never used.

    Returns:
        (n,) names, and the first id never used now.
    """
    kept = clusters > 0
    names = np.zeros(len(clusters), np.uint64)
    if before is None:
        names[kept] = _smallest(clusters[kept], ids[kept])
    else:
        names[kept], following = _inherited(clusters[kept], before[kept], following)
    return names, following


def _smallest(clusters: NDArray[np.uint64], ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    order, number = np.unique(clusters, return_inverse=True)
    smallest = np.full(len(order), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, number, ids)
    return smallest[number]


def _inherited(
    clusters: NDArray[np.uint64], before: NDArray[np.uint64], following: int
) -> tuple[NDArray[np.uint64], int]:
    order, number = np.unique(clusters, return_inverse=True)
    names = np.zeros(len(order), np.uint64)
    old = before > 0
    pairs, votes = np.unique(
        np.stack([before[old], number[old].astype(np.uint64)]), axis=1, return_counts=True
    )
    former, members = np.unique(before[old], return_counts=True)
    most = 2 * votes > members[np.searchsorted(former, pairs[0])]
    # one segment may hold most of several former ones: it keeps the name that most of it had
    ranking = np.lexsort((-pairs[0][most].astype(np.int64), votes[most]))
    names[pairs[1][most][ranking].astype(np.int64)] = pairs[0][most][ranking]
    fresh = np.flatnonzero(names == 0)
    names[fresh] = following + np.arange(len(fresh), dtype=np.uint64)
    return names[number], following + len(fresh)
