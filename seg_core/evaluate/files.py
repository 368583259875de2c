"""Scores of one file against another, streamed where they are about objects."""

import numpy as np
from tqdm import tqdm

from seg_core.errors import SegError
from seg_core.evaluate.binary import class_scores
from seg_core.evaluate.contingency import Contingency
from seg_core.evaluate.instance import instance_scores
from seg_core.geometry import Box, parse_box
from seg_core.volumes.formats import open_source
from seg_core.volumes.formats.source import Source

SLAB = 64  # sections read at once


def evaluate_files(
    segmentation: str, labels: str, roi: str | None, classes: list[str] | None
) -> dict[str, float]:
    """Every metric of a segmentation against labels.

    Args:
        segmentation: anything that `seg import` reads.
        labels: likewise, of the same shape; 0 is unknown for objects, background for classes.
        roi: a part of both, as slices.
        classes: names of the classes 1, 2, ...; objects are scored unless given.

    Raises:
        SegError: a file is missing, shapes differ, the ROI lies outside, or no voxel is labelled.
    """
    found, truth = open_source(segmentation), open_source(labels)
    for source in (found, truth):
        if not np.issubdtype(source.dtype, np.integer) or source.channels:
            more = f" in {source.channels} channels" if source.channels else ""
            raise SegError(
                f"{source.name}: expected integer labels in one channel, found {source.dtype}{more}"
            )
    if found.shape != truth.shape:
        raise SegError(
            f"{segmentation} has shape {found.shape}, {labels} has {truth.shape}; they "
            "must cover the same voxels"
        )
    box = Box.of_shape(found.shape)
    box = parse_box(roi, box) if roi else box
    if classes:
        size = found.voxel_size or truth.voxel_size or (1.0, 1.0, 1.0)
        return class_scores(found.read(box), truth.read(box), classes, size)
    return _objects(found, truth, box)


def _objects(found: Source, truth: Source, box: Box) -> dict[str, float]:
    table = Contingency()
    for slab in tqdm(list(box.tiles((SLAB, *box.shape[1:]))), desc="evaluate", leave=False):
        table.add(found.read(slab).astype(np.uint64), truth.read(slab).astype(np.uint64))
    return instance_scores(table)
