"""Scores of a segmentation as detected objects: which labels were found by which segments.

A segment finds a label if their intersection over union (IoU) exceeds a threshold of at least
0.5; strictly, for then no object matches twice and nothing needs to be assigned (Kirillov 2019,
arXiv:1801.00868).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.contingency import sizes
from seg_core.evaluate.pair_hash import Counts, Ids

REPORTED = (50, 75)  # per cent of IoU
AVERAGED = range(50, 100, 5)


@dataclass(frozen=True)
class Overlaps:
    """Pairs of objects that meet, and how many objects there are.

    Attributes:
        both: voxels in segment and label, float64 (pairs,).
        either: voxels in segment or label, float64 (pairs,).
        segments: number of segments.
        labels: number of labels.
    """

    both: NDArray[np.float64]
    either: NDArray[np.float64]
    segments: int
    labels: int


def overlaps(segments: Ids, labels: Ids, voxels: Counts) -> Overlaps:
    """The overlaps of the objects, id 0 being none on either side; its voxels count in sizes."""
    segment_index, segment_sizes = sizes(segments, voxels)
    label_index, label_sizes = sizes(labels, voxels)
    kept = (segments != 0) & (labels != 0)
    both = voxels[kept].astype(np.float64)
    return Overlaps(
        both=both,
        either=segment_sizes[segment_index[kept]] + label_sizes[label_index[kept]] - both,
        segments=np.unique(segments[segments != 0]).size,
        labels=np.unique(labels[labels != 0]).size,
    )


def object_scores(segments: Ids, labels: Ids, voxels: Counts) -> dict[str, float]:
    """f1, precision, recall and panoptic quality at IoU 0.5 and 0.75, and average precision.

    Average precision is the mean over IoU 0.5, 0.55 ... 0.95 of TP / (TP + FP + FN) (Data Science
    Bowl 2018, doi:10.1038/s41592-019-0612-7). Without any object on either side all scores are 1;
    with objects on one side only they are 0.
    """
    found = overlaps(segments, labels, voxels)
    scores: dict[str, float] = {}
    for percent in REPORTED:
        scores |= {f"{name}_{percent}": v for name, v in _at(found, percent).items()}
    jaccards = [_jaccard(found, percent) for percent in AVERAGED]
    return scores | {"average_precision": float(np.mean(jaccards))}


def _matched(found: Overlaps, percent: int) -> NDArray[np.bool_]:
    # whole numbers: 0.55 and its like are no binary fractions, and the bound must be exact
    return found.both * 100 > found.either * percent


def _at(found: Overlaps, percent: int) -> dict[str, float]:
    matched = _matched(found, percent)
    hits = int(matched.sum())
    iou = float(np.sum(found.both[matched] / found.either[matched]))
    nothing = found.segments + found.labels == 0
    mean_objects = (found.segments + found.labels) / 2
    return {
        "f1": _ratio(hits, mean_objects, nothing),
        "precision": _ratio(hits, found.segments, nothing),
        "recall": _ratio(hits, found.labels, nothing),
        "panoptic_quality": _ratio(iou, mean_objects, nothing),
    }


def _jaccard(found: Overlaps, percent: int) -> float:
    hits = int(_matched(found, percent).sum())
    either = found.segments + found.labels - hits
    return _ratio(hits, either, either == 0)


def _ratio(part: float, whole: float, nothing: bool) -> float:
    """The ratio; 1 where there was nothing to find and nothing found, 0 for no `whole` else."""
    if nothing:
        return 1.0
    return part / whole if whole > 0 else 0.0
