"""All scores of a segmentation into instances, from one table of overlaps."""

import math
from typing import Literal

from seg_core.errors import SegError
from seg_core.evaluate.contingency import Contingency
from seg_core.evaluate.objects import object_scores
from seg_core.evaluate.pair_hash import Counts, Ids
from seg_core.evaluate.partition import rand_scores, voi_scores

Background = Literal["unknown", "known"]
Pairs = tuple[Ids, Ids, Counts]


def instance_scores(
    table: Contingency, ignore_label: int | None = 0, background: Background = "unknown"
) -> dict[str, float]:
    """Scores of a segmentation against ground truth labels.

    Partition scores (`voi_split`, `voi_merge`, `voi_sum` in bits, `rand_index`,
    `adapted_rand_error`, `adapted_rand_precision`, `adapted_rand_recall`, and `cremi_score`,
    sqrt(voi_sum * adapted_rand_error), cremi.org) leave out the voxels of `ignore_label`; what is
    left of segment 0 is a segment like any other. voi_split counts labels cut into several
    segments, voi_merge segments that hold several labels.

    Object scores (`f1_50`, `precision_50`, `recall_50`, `panoptic_quality_50`, the same with 75,
    and `average_precision`; see `seg_core.evaluate.objects`) are about the nonzero segments and
    labels. They leave out an `ignore_label` other than 0; label 0 is up to `background`.

    Args:
        table: overlaps of the whole volume.
        ignore_label: label whose voxels no partition score reads; None for none.
        background: what label 0 means to the object scores. "unknown": its voxels are left out.
            "known": nothing is there, so they count in a segment's size, and a segment that lies
            wholly on them is a false positive.

    Raises:
        SegError: no voxel has a label other than `ignore_label`.
    """
    kept = _without(table.pairs(), ignore_label)
    if not kept[2].size:
        raise SegError(
            f"No voxel has a label other than {ignore_label}, so there is nothing to score: give "
            "labels, or a mask, that cover some ground truth."
        )
    scores = voi_scores(*kept) | rand_scores(*kept)
    scores["cremi_score"] = math.sqrt(scores["voi_sum"] * scores["adapted_rand_error"])
    return scores | object_scores(*_for_objects(table.pairs(), ignore_label, background))


def _for_objects(pairs: Pairs, ignore_label: int | None, background: Background) -> Pairs:
    if ignore_label:
        pairs = _without(pairs, ignore_label)
    return _without(pairs, 0) if background == "unknown" else pairs


def _without(pairs: Pairs, label: int | None) -> Pairs:
    if label is None:
        return pairs
    segments, labels, voxels = pairs
    kept = labels != label
    return segments[kept], labels[kept], voxels[kept]
