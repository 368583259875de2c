"""What masks and classes must be to be scored; each complaint is one sentence."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.errors import SegError

AnyArray = NDArray[Any]
Mask = NDArray[np.bool_]


def check_shapes(predicted: AnyArray, truth: AnyArray, mask: Mask | None) -> None:
    """Raise SegError unless all are of one three-dimensional shape with a voxel to score."""
    if predicted.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        of_mask = "" if mask is None else f" and the mask {mask.shape}"
        raise SegError(
            f"The prediction has shape {predicted.shape}, the truth {truth.shape}{of_mask}: "
            "they must be equal."
        )
    if truth.ndim != 3:
        raise SegError(f"The truth has shape {truth.shape}: it must have three axes, z, y and x.")
    if not (truth.size if mask is None else mask.any()):
        raise SegError("There is no voxel to score: the volume or the mask is empty.")


def check_lengths(voxel_size_nm: Sequence[float], tolerance_nm: float) -> None:
    """Raise SegError unless there are three positive voxel sizes and a tolerance of 0 or more."""
    if len(voxel_size_nm) != 3 or not all(0 < size < math.inf for size in voxel_size_nm):
        raise SegError(
            f"The voxel size is {tuple(voxel_size_nm)}: give three positive numbers of nm, z, y, x."
        )
    if not tolerance_nm >= 0:
        raise SegError(f"The tolerance is {tolerance_nm} nm: it must be 0 or more.")


def check_names(names: Sequence[str]) -> None:
    """Raise SegError unless the names make distinct keys `<name>/<score>` beside `mean/<score>`."""
    if not names or len(set(names)) < len(names) or any("/" in n or n == "mean" for n in names):
        raise SegError(
            f"The class names are {list(names)}: give at least one, all different, without '/' "
            "and none of them 'mean'."
        )


def check_classes(predicted: AnyArray, truth: AnyArray, mask: Mask | None, classes: int) -> None:
    """Raise SegError unless every scored voxel is 0 (background) or one of `classes` classes."""
    for what, array in (("prediction", predicted), ("truth", truth)):
        scored = array if mask is None else array[mask]
        if array.dtype.kind not in "iu" or scored.min() < 0 or scored.max() > classes:
            raise SegError(
                f"The {what} is {array.dtype} from {scored.min()} to {scored.max()}: it must be "
                f"integer, 0 for background and 1 to {classes} for the named classes."
            )
