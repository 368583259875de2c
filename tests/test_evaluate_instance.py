import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information

from seg_core.errors import SegError
from seg_core.evaluate.contingency import Contingency
from seg_core.evaluate.criteria import better, higher_is_better
from seg_core.evaluate.instance import instance_scores
from seg_core.evaluate.partition import rand_scores

LAST = 2**64 - 1
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)
dtypes = st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64])


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes)
    few = st.integers(0, 4)
    return (
        draw(hnp.arrays(draw(dtypes), shape, elements=few)),
        draw(hnp.arrays(draw(dtypes), shape, elements=few)),
    )


def table_of(segmentation: Any, labels: Any, mask: Any = None) -> Contingency:
    table = Contingency()
    table.add(np.asarray(segmentation, np.uint64), np.asarray(labels, np.uint64), mask)
    return table


def listed(table: Contingency) -> list[tuple[int, int, int]]:
    return [(int(s), int(t), int(n)) for s, t, n in zip(*table.pairs(), strict=True)]


def test_pairs_by_hand() -> None:
    table = table_of([[7, 7, LAST], [LAST, 0, 7]], [[1, 1, LAST], [LAST, 0, 0]])
    assert listed(table) == [(0, 0, 1), (7, 0, 1), (7, 1, 2), (LAST, LAST, 2)]
    segments, labels, voxels = table.pairs()
    assert (segments.dtype, labels.dtype, voxels.dtype) == (np.uint64, np.uint64, np.int64)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What the first example would else compile and import, in its time."""
    once = np.ones((1, 1, 1), np.uint8)
    instance_scores(table_of(once, once))


def test_no_block_is_no_pair() -> None:
    assert listed(Contingency()) == []
    assert listed(table_of(np.zeros((0, 3, 3)), np.zeros((0, 3, 3)))) == []


@pytest.mark.timed
@given(volumes(), st.data())
def test_blocks_add_up_to_the_whole(
    arrays: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    segmentation, labels = arrays
    mask = data.draw(st.none() | hnp.arrays(bool, segmentation.shape))
    axis = data.draw(st.integers(0, segmentation.ndim - 1))
    size = segmentation.shape[axis]
    cuts = sorted({0, size} | data.draw(st.sets(st.integers(0, size))))
    blocks = Contingency()
    for begin, end in pairwise(cuts):
        block = (slice(None),) * axis + (slice(begin, end),)
        blocks.add(segmentation[block], labels[block], None if mask is None else mask[block])
    assert listed(blocks) == listed(table_of(segmentation, labels, mask))


@pytest.mark.timed
@given(volumes())
def test_pairs_count_voxels(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    segmentation, labels = arrays
    both = np.stack([a.ravel().astype(np.uint64) for a in arrays])
    pairs, counts = np.unique(both, axis=1, return_counts=True)
    found = table_of(segmentation.T[::-1], labels.T[::-1]).pairs()
    np.testing.assert_array_equal(np.stack(found[:2]), pairs)
    np.testing.assert_array_equal(found[2], counts)


def test_table_grows_past_its_first_size() -> None:
    random = np.random.default_rng(0)
    segmentation = random.integers(0, 2**63, 200_000, dtype=np.uint64)
    segmentation.flags.writeable = False
    labels = np.arange(200_000, dtype=np.uint32) // 3
    table = Contingency()
    table.add(segmentation, labels)
    table.add(segmentation, labels)
    segments, _, voxels = table.pairs()
    np.testing.assert_array_equal(segments, np.sort(segmentation))
    assert (voxels == 2).all()


def test_add_says_what_is_wrong() -> None:
    ids = np.zeros((2, 3), np.uint8)
    with pytest.raises(SegError, match=r"\(2, 3\).*\(3, 2\)"):
        Contingency().add(ids, ids.T)
    with pytest.raises(SegError, match="int64"):
        Contingency().add(ids, ids.astype(np.int64))
    with pytest.raises(SegError, match="mask"):
        Contingency().add(ids, ids, np.zeros((3, 2), bool))


def test_a_split_by_hand() -> None:
    """One label of 4 voxels in 2 segments of 2: one bit to tell the segment, none the label.

    Of 6 voxel pairs of the label 2 lie in one segment: recall 1/3, precision 1, F = 1/2.
    """
    segmentation, labels = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    scores = instance_scores(table_of(segmentation, labels))
    assert (scores["voi_split"], scores["voi_merge"], scores["voi_sum"]) == (1, 0, 1)
    assert scores["adapted_rand_precision"] == 1
    assert scores["adapted_rand_recall"] == pytest.approx(1 / 3)
    assert scores["adapted_rand_error"] == pytest.approx(1 / 2)
    assert scores["rand_index"] == pytest.approx(1 / 3)
    assert scores["cremi_score"] == pytest.approx(math.sqrt(1 / 2))
    # scikit-image: split comes first of VOI, and recall before precision
    assert tuple(variation_of_information(labels, segmentation)) == (1, 0)
    assert adapted_rand_error(labels, segmentation) == pytest.approx((1 / 2, 1 / 3, 1))


def test_a_merge_by_hand() -> None:
    scores = instance_scores(table_of([5, 5, 5, 5], [1, 1, 2, 2]))
    assert (scores["voi_split"], scores["voi_merge"]) == (0, 1)
    assert scores["adapted_rand_precision"] == pytest.approx(1 / 3)
    assert scores["adapted_rand_recall"] == 1


def assert_as_skimage(segmentation: np.ndarray, labels: np.ndarray, ignore: int | None) -> None:
    ignored = () if ignore is None else (ignore,)
    scores = instance_scores(table_of(segmentation, labels), ignore)
    ints = labels.astype(np.int64), segmentation.astype(np.int64)
    split, merge = variation_of_information(*ints, ignore_labels=ignored)
    with np.errstate(invalid="ignore"):
        error, recall, precision = adapted_rand_error(*ints, ignore_labels=ignored)
    assert scores["voi_split"] == pytest.approx(split, abs=1e-9)
    assert scores["voi_merge"] == pytest.approx(merge, abs=1e-9)
    # 0 / 0 there, a perfect share here: no two voxels belong together
    assert scores["adapted_rand_error"] == pytest.approx(np.nan_to_num(error, nan=0), abs=1e-9)
    assert scores["adapted_rand_recall"] == pytest.approx(np.nan_to_num(recall, nan=1), abs=1e-9)
    want = np.nan_to_num(precision, nan=1)
    assert scores["adapted_rand_precision"] == pytest.approx(want, abs=1e-9)


@pytest.mark.timed
@given(volumes(), st.sampled_from([0, 3, None]))
def test_equals_skimage(arrays: tuple[np.ndarray, np.ndarray], ignore: int | None) -> None:
    segmentation, labels = arrays
    if ignore is not None and (labels == ignore).all():
        with pytest.raises(SegError, match=f"other than {ignore}"):
            instance_scores(table_of(segmentation, labels), ignore)
    else:
        assert_as_skimage(segmentation, labels, ignore)


@pytest.mark.parametrize("ignore", [0, None])
def test_equals_skimage_on_many_objects(ignore: int | None) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 30, (8, 8, 8)).repeat(4, 0).repeat(4, 1)
    segmentation = np.where(random.random(labels.shape) < 0.3, labels // 2, labels * 3)
    assert_as_skimage(segmentation, labels, ignore)


@pytest.mark.timed
@settings(max_examples=50)
@given(volumes())
def test_itself_is_perfect_and_names_do_not_matter(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    labels = arrays[1] + 1
    scores = instance_scores(table_of(labels * 10, labels))
    for key, value in scores.items():
        assert value == (1 if higher_is_better(key) else 0), key
        assert math.copysign(1, value) == 1, key


def test_large_volumes_neither_overflow_nor_leave_the_range() -> None:
    ids, voxels = np.arange(1, 4, dtype=np.uint64), np.array([10**14 + 1, 3, 10**13 + 7])
    scores = rand_scores(ids, ids[::-1].copy(), voxels)
    assert all(v == (1 if higher_is_better(k) else 0) for k, v in scores.items())


def test_objects_by_hand() -> None:
    """Segment 1 has IoU 3/4 with label 1, segment 2 IoU 1 with label 2, label 3 is missed."""
    labels = np.array([1, 1, 1, 1, 2, 2, 3])
    segmentation = np.array([1, 1, 1, 0, 2, 2, 0])
    scores = instance_scores(table_of(segmentation, labels))
    assert scores["precision_50"] == 1
    assert scores["recall_50"] == pytest.approx(2 / 3)
    assert scores["f1_50"] == pytest.approx(2 / 2.5)
    assert scores["panoptic_quality_50"] == pytest.approx(1.75 / 2.5)
    # an IoU of just 0.75 does not exceed 0.75
    assert scores["precision_75"] == 1 / 2
    assert scores["recall_75"] == pytest.approx(1 / 3)
    assert scores["panoptic_quality_75"] == pytest.approx(1 / 2.5)
    # 0.5 ... 0.7: 2 of 3 objects, 0.75 ... 0.95: 1 hit of 2 + 3 - 1
    assert scores["average_precision"] == pytest.approx((5 * 2 / 3 + 5 * 1 / 4) / 10)


def test_known_background_counts_against_segments() -> None:
    """Label 1 in segment 1, 3 of whose 6 voxels are background, and segment 2 on nothing."""
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    segmentation = np.array([1, 1, 1, 1, 1, 1, 2])
    unknown = instance_scores(table_of(segmentation, labels))
    known = instance_scores(table_of(segmentation, labels), background="known")
    assert unknown["f1_50"] == unknown["panoptic_quality_75"] == 1
    assert known["f1_50"] == known["recall_50"] == 0  # IoU 3/6 does not exceed 1/2
    partition = ("voi_sum", "rand_index", "adapted_rand_error", "cremi_score")
    assert [known[k] for k in partition] == [unknown[k] for k in partition] == [0, 1, 0, 0]
    segmentation[5] = 0
    known = instance_scores(table_of(segmentation, labels), background="known")
    assert (known["precision_50"], known["recall_50"]) == (1 / 2, 1)


def test_an_ignored_label_other_than_0_is_no_object() -> None:
    scores = instance_scores(table_of([1, 1, 2, 0], [1, 1, 9, 0]), 9, "known")
    assert scores["precision_50"] == scores["recall_50"] == scores["rand_index"] == 1


def test_objects_on_one_side_only() -> None:
    scores = instance_scores(table_of([0, 0], [1, 1]))
    assert scores["precision_50"] == scores["f1_50"] == scores["average_precision"] == 0
    scores = instance_scores(table_of([0, 0], [0, 0]), None, "known")
    assert scores["precision_50"] == scores["f1_50"] == scores["average_precision"] == 1


def test_no_label_is_an_error() -> None:
    with pytest.raises(SegError, match="No voxel has a label other than 0"):
        instance_scores(table_of([1, 2], [0, 0]))
    with pytest.raises(SegError, match="No voxel"):
        instance_scores(Contingency(), None)


def test_every_score_has_a_direction() -> None:
    for key in instance_scores(table_of([1], [1])):
        assert higher_is_better(key) is not any(w in key for w in ("voi", "error", "cremi"))


def test_better() -> None:
    assert better("rand_index", 0.9, 0.8) and not better("rand_index", 0.8, 0.8)
    assert better("er/hausdorff", 1.0, 2.0) and not better("mean/voi", 2.0, 1.0)
    assert better("dice", 0.0, math.nan) and not better("dice", math.nan, 0.0)
    assert not better("dice", math.nan, math.nan)
    with pytest.raises(SegError, match=r"'beauty'.*dice.*voi_sum"):
        higher_is_better("beauty")
