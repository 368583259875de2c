"""Scores of two sets of voxels by how many voxels they share."""

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.partition import conditional_entropies

Mask = NDArray[np.bool_]


def overlap_scores(predicted: Mask, truth: Mask, voxels: int) -> dict[str, float]:
    """Dice to VOI of two sets, both bool (z, y, x), among `voxels` that are scored.

    Two empty sets match perfectly; if just one is empty its shares are 0. No distances here.
    """
    hits = int(np.count_nonzero(predicted & truth))
    extra = int(np.count_nonzero(predicted)) - hits
    missed = int(np.count_nonzero(truth)) - hits
    outside = voxels - hits - extra - missed
    nothing = hits + extra + missed == 0
    dice = _ratio(2 * hits, 2 * hits + extra + missed, nothing)
    precision = _ratio(hits, hits + extra, nothing)
    recall = _ratio(hits, hits + missed, nothing)
    return {
        "dice": dice,
        "jaccard": _ratio(hits, hits + extra + missed, nothing),
        "precision": precision,
        "recall": recall,
        "f1": dice,
        "false_positive_rate": _ratio(extra, extra + outside, False),
        "false_negative_rate": 1.0 - recall,
        "false_discovery_rate": 1.0 - precision,
        "voi": _voi(hits, extra, missed, outside),
    }


def _ratio(part: int, whole: int, nothing: bool) -> float:
    if nothing:
        return 1.0
    return part / whole if whole else 0.0


def _voi(hits: int, extra: int, missed: int, outside: int) -> float:
    voxels = np.array([hits, extra, missed, outside], np.int64)
    predicted, truth = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], np.uint64)
    kept = voxels > 0
    return sum(conditional_entropies(predicted[kept], truth[kept], voxels[kept]))
