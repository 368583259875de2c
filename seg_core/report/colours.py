"""Colours that people with any eyesight tell apart: of ids, classes, grey values and mistakes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.tasks.task import Task

Picture = NDArray[np.uint8]
"""(rows, columns) grey, or (rows, columns, 3)."""

# Okabe and Ito 2008
GREEN, ORANGE, SKY, PURPLE = (0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167)
YELLOW, BLUE, VERMILION = (240, 228, 66), (0, 114, 178), (213, 94, 0)

CLASSES = np.array([(0, 0, 0), GREEN, ORANGE, SKY, PURPLE, YELLOW, BLUE, VERMILION], np.uint8)
"""Background, then the classes; more than seven begin again."""

KINDS = np.array([(0, 0, 0), VERMILION, SKY, YELLOW], np.uint8)
"""By the numbers of `seg_core.report.mistakes`: right, first kind, second kind, both."""


def of_ids(ids: NDArray[Any]) -> Picture:
    """A colour for each id of a section, (rows, columns, 3); 0 is black."""
    numbers = ids.astype(np.uint64)[..., None]
    # multipliers near 2**64 / golden ratio spread neighbouring ids over all colours
    factors = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
    shades = ((numbers * factors) >> np.uint64(40)) % np.uint64(200)
    return np.where(numbers > 0, shades + np.uint64(55), 0).astype(np.uint8)


def of_classes(classes: NDArray[Any]) -> Picture:
    """A colour for each class of a section, (rows, columns, 3); 0 is black."""
    numbers = classes.astype(np.int64)
    again = (numbers - 1) % (len(CLASSES) - 1) + 1
    return CLASSES[np.where(numbers > 0, again, 0)]


def of_segments(task: Task, segmentation: NDArray[Any]) -> Picture:
    """A section of a task's segmentation."""
    return of_ids(segmentation) if task.postprocess.joins else of_classes(segmentation)


def of_labels(task: Task, labels: NDArray[Any]) -> Picture:
    """A section of labels, (rows, columns), as the task understands them."""
    ids = task.prepare(labels[None])[0][0]
    if not task.postprocess.joins:
        return of_classes(ids)
    inside = ids > 0
    # a value that means one object keeps its colour from section to section
    one_each = len(np.unique(ids[inside])) == len(np.unique(labels[inside]))
    return of_ids(np.where(inside, labels if one_each else ids, 0))


def of_values(values: NDArray[Any]) -> Picture:
    """A grey section, from its 0.5th percentile (black) to its 99.5th (white)."""
    finite = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    low, high = np.percentile(finite, (0.5, 99.5))
    return _bytes((finite - low) / max(high - low, 1e-6))


def of_prediction(task: Task, values: NDArray[np.float32]) -> Picture:
    """A section of a prediction, (c, rows, columns) in 0 to 1.

    Affinities to the neighbours along z, y, x are red, green and blue; classes have their colours,
    each as bright as it is probable.
    """
    if not task.postprocess.joins:
        colours = of_classes(np.arange(len(values))).astype(np.float32) / 255
        return _bytes(np.tensordot(values, colours, (0, 0)))
    direct = [c for c, offset in enumerate(task.neighbours) if max(offset) == 1]
    chosen = values[direct]
    return _bytes(np.moveaxis(chosen, 0, -1) if len(direct) == 3 else chosen.mean(0))


def over(grey: Picture, kinds: NDArray[np.uint8]) -> Picture:
    """A grey section with coloured voxels over it, (rows, columns, 3)."""
    base = np.repeat(grey[..., None], 3, -1).astype(np.float32)
    # what is right is paler, so that the colours stand out
    faded = 60 + 0.7 * base
    mixed = 0.2 * base + 0.8 * KINDS[kinds]
    return np.where(kinds[..., None] > 0, mixed, faded).astype(np.uint8)


def _bytes(shares: NDArray[Any]) -> Picture:
    return np.asarray(np.rint(np.clip(shares, 0, 1) * 255), np.uint8)
