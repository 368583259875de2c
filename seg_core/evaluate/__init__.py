"""Scores of segmentations against ground truth."""

from seg_core.evaluate.binary import binary_scores, class_scores
from seg_core.evaluate.contingency import Contingency
from seg_core.evaluate.criteria import better, higher_is_better
from seg_core.evaluate.instance import instance_scores

__all__ = [
    "Contingency",
    "better",
    "binary_scores",
    "class_scores",
    "higher_is_better",
    "instance_scores",
]
