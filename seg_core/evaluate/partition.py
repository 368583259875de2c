"""Scores of a segmentation as a partition of the voxels: variation of information and Rand."""

import numpy as np

from seg_core.evaluate.contingency import sizes
from seg_core.evaluate.pair_hash import Counts, Ids


def conditional_entropies(first: Ids, second: Ids, voxels: Counts) -> tuple[float, float]:
    """H(first | second) and H(second | first) in bits, of pairs of ids and their voxels.

    Both are at least 0. Meila 2007, doi:10.1016/j.jmva.2006.11.013. There must be a voxel.
    """
    total = float(voxels.sum())

    def given(ids: Ids) -> float:
        index, totals = sizes(ids, voxels)
        # max: the sum of a perfect match is -0.0
        return max(0.0, float(np.sum(voxels * np.log2(totals[index] / voxels))) / total)

    return given(second), given(first)


def voi_scores(segments: Ids, labels: Ids, voxels: Counts) -> dict[str, float]:
    """voi_split = H(segments | labels), voi_merge = H(labels | segments), voi_sum; in bits."""
    split, merge = conditional_entropies(segments, labels, voxels)
    return {"voi_split": split, "voi_merge": merge, "voi_sum": split + merge}


def rand_scores(segments: Ids, labels: Ids, voxels: Counts) -> dict[str, float]:
    """Rand index, and adapted Rand error, precision and recall, over pairs of distinct voxels.

    Precision is the share of a segment's voxel pairs that one label holds too (merging lowers it),
    recall the share of a label's pairs that one segment holds too (splitting lowers it):
    Arganda-Carreras 2015, doi:10.3389/fnana.2015.00142. scikit-image 0.26 returns those two
    exchanged (its issue 6485); the error is the same. A share of no pairs at all is 1.
    """
    both = _pairs_within(voxels.astype(np.float64))
    in_segments = _pairs_within(sizes(segments, voxels)[1])
    in_labels = _pairs_within(sizes(labels, voxels)[1])
    every = _pairs_within(voxels.sum(keepdims=True).astype(np.float64))
    apart = every - in_segments - in_labels + both
    return {
        "rand_index": _share(both + apart, every),
        "adapted_rand_error": 1.0 - _share(2 * both, in_segments + in_labels),
        "adapted_rand_precision": _share(both, in_segments),
        "adapted_rand_recall": _share(both, in_labels),
    }


def _pairs_within(voxels: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Unordered pairs of distinct voxels in one group, summed over the groups."""
    return float(np.sum(voxels * (voxels - 1)) / 2)


def _share(part: float, whole: float) -> float:
    # min: sums past 2**53 pairs are rounded, and the error of a perfect match must not be negative
    return min(1.0, part / whole) if whole > 0 else 1.0
