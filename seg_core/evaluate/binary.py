"""Scores of a predicted mask against the true one, and of several classes of masks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.checks import check_classes, check_lengths, check_names, check_shapes
from seg_core.evaluate.distances import crop_to_union, distance_scores, surface_dice
from seg_core.evaluate.overlap import overlap_scores

Mask = NDArray[np.bool_]

_DISTANCES = (
    "hausdorff",
    "mean_false_distance",
    "mean_false_positive_distance",
    "mean_false_negative_distance",
)


def binary_scores(
    predicted: Mask,
    truth: Mask,
    voxel_size_nm: Sequence[float],
    mask: Mask | None = None,
    tolerance_nm: float = 0.0,
) -> dict[str, float]:
    """Scores of a predicted mask.

    `dice` (the same as `f1`), `jaccard`, `precision`, `recall`, `false_positive_rate` (of the
    voxels not in the truth), `false_negative_rate` (1 - recall), `false_discovery_rate`
    (1 - precision), `voi` (bits, of the partition into inside and outside), `surface_dice`, and in
    nm `hausdorff`, `mean_false_distance`, `mean_false_positive_distance` and
    `mean_false_negative_distance` (see `seg_core.evaluate.distances`).

    Prediction and truth both empty is a perfect match: shares 1, error rates and distances 0. If
    just one is empty, shares are 0, `false_negative_rate` and `false_discovery_rate` 1, and
    distances, which do not exist, nan. `false_positive_rate` is 0 if the truth fills all.

    Args:
        predicted: bool (z, y, x).
        truth: bool (z, y, x).
        voxel_size_nm: nm along z, y, x.
        mask: bool (z, y, x), the voxels to score; all others count as outside of both sets and
            as no surface. None: all are scored.
        tolerance_nm: how far apart surfaces may lie for `surface_dice`, in nm, at least 0.

    Raises:
        SegError: shapes differ, are not three-dimensional or hold no voxel to score; or the
            voxel size is not three positive numbers, or the tolerance is negative.
    """
    check_shapes(predicted, truth, mask)
    check_lengths(voxel_size_nm, tolerance_nm)
    counted = np.ones(truth.shape, np.bool_) if mask is None else mask.astype(np.bool_)
    predicted, truth = predicted.astype(np.bool_) & counted, truth.astype(np.bool_) & counted
    scores = overlap_scores(predicted, truth, int(np.count_nonzero(counted)))
    if not (predicted.any() and truth.any()):
        same = predicted.any() == truth.any()
        return scores | _empty_scores(bool(same))
    box = crop_to_union(predicted, truth)
    inside, true = predicted[box], truth[box]
    known = None if mask is None else counted[box]
    scores |= distance_scores(inside, true, voxel_size_nm)
    scores["surface_dice"] = surface_dice(inside, true, voxel_size_nm, known, tolerance_nm)
    return scores


def class_scores(
    predicted: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    names: Sequence[str],
    voxel_size_nm: Sequence[float],
    mask: Mask | None = None,
    tolerance_nm: float = 0.0,
) -> dict[str, float]:
    """`binary_scores` of every class as `<name>/<score>`, and their means as `mean/<score>`.

    The mean is nan if a class's score is: a class that has no distance must not improve the mean.

    Args:
        predicted: integer (z, y, x): class i + 1 is `names[i]`, 0 is background.
        truth: integer (z, y, x), alike.
        names: one per class, distinct, without `/` and none of them `mean`.
        voxel_size_nm: nm along z, y, x.
        mask: bool (z, y, x), the voxels to score; None for all.
        tolerance_nm: for `surface_dice`, in nm.

    Raises:
        SegError: as `binary_scores`, or the names do not fit, or a scored voxel has a class
            without a name.
    """
    check_shapes(predicted, truth, mask)
    check_names(names)
    check_classes(predicted, truth, mask, len(names))
    each = [
        binary_scores(predicted == i, truth == i, voxel_size_nm, mask, tolerance_nm)
        for i in range(1, len(names) + 1)
    ]
    scores = {f"{n}/{key}": v for n, s in zip(names, each, strict=True) for key, v in s.items()}
    return scores | {f"mean/{key}": float(np.mean([s[key] for s in each])) for key in each[0]}


def _empty_scores(same: bool) -> dict[str, float]:
    distance = 0.0 if same else math.nan
    return dict.fromkeys(_DISTANCES, distance) | {"surface_dice": 1.0 if same else 0.0}
