"""Which way each score is better: what choosing among checkpoints or parameters goes by."""

import math

from seg_core.errors import SegError

_AT_IOU = ("f1", "precision", "recall", "panoptic_quality")

_HIGHER = (
    # instances
    "rand_index",
    "adapted_rand_precision",
    "adapted_rand_recall",
    *(f"{name}_{percent}" for percent in (50, 75) for name in _AT_IOU),
    "average_precision",
    # masks
    "dice",
    "jaccard",
    "precision",
    "recall",
    "f1",
    "surface_dice",
)

_LOWER = (
    # instances
    "voi_split",
    "voi_merge",
    "voi_sum",
    "adapted_rand_error",
    "cremi_score",
    # masks
    "voi",
    "false_positive_rate",
    "false_negative_rate",
    "false_discovery_rate",
    "hausdorff",
    "mean_false_distance",
    "mean_false_positive_distance",
    "mean_false_negative_distance",
)


def higher_is_better(criterion: str) -> bool:
    """Whether more of a score is better; of `<name>/<score>` too, whatever the name.

    Raises:
        SegError: there is no such score.
    """
    score = criterion.rpartition("/")[2]
    if score not in _HIGHER and score not in _LOWER:
        known = ", ".join(sorted(_HIGHER + _LOWER))
        raise SegError(f"There is no score {criterion!r}; take one of {known}, or <name>/<score>.")
    return score in _HIGHER


def better(criterion: str, a: float, b: float) -> bool:
    """Whether `a` is a strictly better value of the score than `b`.

    nan is never better; any number is better than nan.

    Raises:
        SegError: there is no such score.
    """
    higher = higher_is_better(criterion)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(b) and not math.isnan(a)
    return a > b if higher else a < b
