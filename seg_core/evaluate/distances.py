"""Distances between two sets of voxels, in nanometres, and between their surfaces."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


def distances_to(target: Mask, voxels: Mask, voxel_size_nm: Sequence[float]) -> Distances:
    """Distance of each of the `voxels` to the nearest one of `target`, between centres, in nm.

    Both bool (z, y, x); float64, one per voxel, inf if `target` is empty.
    """
    if not target.any():
        # scipy would measure to a voxel outside the array
        return np.full(np.count_nonzero(voxels), np.inf)
    to_target: Distances = ndimage.distance_transform_edt(~target, sampling=voxel_size_nm)
    return to_target[voxels]


def surface(voxels: Mask, known: Mask | None) -> Mask:
    """The voxels that share a face with one known not to be in the set; all bool (z, y, x).

    Where the volume or the `known` part of it ends is no surface: the object may go on there.
    """
    solid = voxels if known is None else voxels | ~known
    return voxels & ~ndimage.binary_erosion(solid, border_value=1)


def crop_to_union(first: Mask, second: Mask) -> tuple[slice, ...]:
    """The box of both sets and a voxel around it; distances and surfaces in it are the same."""
    union = first | second
    box = []
    for axis in range(union.ndim):
        others = tuple(a for a in range(union.ndim) if a != axis)
        inside = np.flatnonzero(union.any(axis=others))
        box.append(slice(max(0, int(inside[0]) - 1), int(inside[-1]) + 2))
    return tuple(box)


def distance_scores(
    predicted: Mask, truth: Mask, voxel_size_nm: Sequence[float]
) -> dict[str, float]:
    """Hausdorff and mean false distances in nm of two sets, bool (z, y, x), neither empty.

    The mean false positive distance is that of a predicted voxel to the truth (0 inside it), the
    mean false negative distance the other way round, the mean false distance their mean: the
    scores of the CREMI challenge for clefts (cremi.org/metrics).
    """
    positive = distances_to(truth, predicted, voxel_size_nm)
    negative = distances_to(predicted, truth, voxel_size_nm)
    return {
        "hausdorff": float(max(positive.max(), negative.max())),
        "mean_false_distance": float(positive.mean() + negative.mean()) / 2,
        "mean_false_positive_distance": float(positive.mean()),
        "mean_false_negative_distance": float(negative.mean()),
    }


def surface_dice(
    predicted: Mask,
    truth: Mask,
    voxel_size_nm: Sequence[float],
    known: Mask | None = None,
    tolerance_nm: float = 0.0,
) -> float:
    """Share of both surfaces' voxels that lie within `tolerance_nm` of the other surface.

    Nikolov 2021, doi:10.2196/26151, with voxels counted instead of weighted by area. Masks are bool
    (z, y, x); without any surface (both fill all that is known) it is 1.
    """
    first, second = surface(predicted, known), surface(truth, known)
    apart = np.concatenate(
        [distances_to(second, first, voxel_size_nm), distances_to(first, second, voxel_size_nm)]
    )
    return float(np.mean(apart <= tolerance_nm)) if apart.size else 1.0
