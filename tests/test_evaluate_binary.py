import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist
from skimage.metrics import variation_of_information

from seg_core.errors import SegError
from seg_core.evaluate.binary import binary_scores, class_scores
from seg_core.evaluate.criteria import higher_is_better

SIZE = (40.0, 4.0, 5.0)
DISTANCES = (
    "hausdorff",
    "mean_false_distance",
    "mean_false_positive_distance",
    "mean_false_negative_distance",
)


def box(shape: tuple[int, int, int], *slices: slice) -> np.ndarray:
    volume = np.zeros(shape, bool)
    volume[slices] = True
    return volume


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


def test_overlap_by_hand() -> None:
    """6 voxels predicted, 4 true, 3 in both, of 20."""
    predicted, truth = np.zeros((2, 1, 4, 5), bool)
    predicted.flat[0:6] = True
    truth.flat[3:7] = True
    scores = binary_scores(predicted, truth, SIZE)
    assert scores["dice"] == scores["f1"] == pytest.approx(6 / 10)
    assert scores["jaccard"] == pytest.approx(3 / 7)
    assert scores["precision"] == pytest.approx(3 / 6)
    assert scores["recall"] == pytest.approx(3 / 4)
    assert scores["false_positive_rate"] == pytest.approx(3 / 16)
    assert scores["false_negative_rate"] == pytest.approx(1 / 4)
    assert scores["false_discovery_rate"] == pytest.approx(3 / 6)


def test_distances_by_hand() -> None:
    """One true voxel; predicted are it, the next along x (5 nm) and one a section up (40 nm)."""
    truth = box((3, 3, 3), slice(1, 2), slice(1, 2), slice(1, 2))
    predicted = truth.copy()
    predicted[1, 1, 2] = predicted[2, 1, 1] = True
    scores = binary_scores(predicted, truth, SIZE)
    assert scores["hausdorff"] == 40
    assert scores["mean_false_positive_distance"] == pytest.approx(45 / 3)
    assert scores["mean_false_negative_distance"] == 0
    assert scores["mean_false_distance"] == pytest.approx(7.5)


def test_surface_dice_by_hand() -> None:
    """Two slabs over all of y and x, 2 sections thick, one section (40 nm) apart.

    Sections 1, 2 and 2, 3: every section is surface, 2 is shared, 1 and 3 are 40 nm off.
    """
    predicted = box((6, 3, 3), slice(1, 3))
    truth = box((6, 3, 3), slice(2, 4))
    assert binary_scores(predicted, truth, SIZE)["surface_dice"] == pytest.approx(1 / 2)
    near = binary_scores(predicted, truth, SIZE, tolerance_nm=39)
    assert near["surface_dice"] == pytest.approx(1 / 2)
    assert binary_scores(predicted, truth, SIZE, tolerance_nm=40)["surface_dice"] == 1


def test_the_end_of_what_is_known_is_no_surface() -> None:
    """Slabs of sections 0 to 2 and 0 to 3: only the upper faces are surface, and none if masked."""
    predicted, truth = box((6, 3, 3), slice(0, 3)), box((6, 3, 3), slice(0, 4))
    assert binary_scores(predicted, truth, SIZE)["surface_dice"] == 0
    assert binary_scores(predicted, truth, SIZE, tolerance_nm=40)["surface_dice"] == 1
    mask = box((6, 3, 3), slice(0, 3))
    masked = binary_scores(predicted, truth, SIZE, mask)
    assert masked["surface_dice"] == masked["dice"] == 1
    assert masked["hausdorff"] == 0


def test_empty_masks() -> None:
    none, some = box((2, 3, 3), slice(0, 0)), box((2, 3, 3), slice(0, 1))
    both = binary_scores(none, none, SIZE)
    assert all(v == (1 if higher_is_better(k) else 0) for k, v in both.items())
    for scores in (binary_scores(none, some, SIZE), binary_scores(some, none, SIZE)):
        assert all(math.isnan(scores[key]) for key in DISTANCES)
        assert all(v == 0 for k, v in scores.items() if higher_is_better(k))
        assert scores["false_negative_rate"] == scores["false_discovery_rate"] == 1
        assert scores["voi"] == 1
    assert binary_scores(some, none, SIZE)["false_positive_rate"] == 1 / 2
    full = np.ones((2, 3, 3), bool)
    assert binary_scores(full, full, SIZE)["surface_dice"] == 1
    assert binary_scores(full, full, SIZE)["false_positive_rate"] == 0


@pytest.mark.timed
@settings(max_examples=100)
@given(two_masks())
def test_distances_and_voi_equal_brute_force(masks: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = masks
    scores = binary_scores(predicted, truth, SIZE)
    voi = variation_of_information(truth.astype(int), predicted.astype(int)).sum()
    assert scores["voi"] == pytest.approx(voi, abs=1e-9)
    if predicted.any() and truth.any():
        apart = cdist(np.argwhere(predicted) * SIZE, np.argwhere(truth) * SIZE)
        there, back = apart.min(1), apart.min(0)
        assert scores["hausdorff"] == pytest.approx(max(there.max(), back.max()))
        assert scores["mean_false_positive_distance"] == pytest.approx(there.mean())
        assert scores["mean_false_negative_distance"] == pytest.approx(back.mean())


@pytest.mark.timed
@settings(max_examples=100)
@given(two_masks(), st.data())
def test_symmetry_and_bounds(masks: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    predicted, truth = masks
    mask = data.draw(st.none() | hnp.arrays(bool, truth.shape).filter(np.any))
    one = binary_scores(predicted, truth, SIZE, mask, 5)
    other = binary_scores(truth, predicted, SIZE, mask, 5)
    for key in ("dice", "jaccard", "voi", "hausdorff", "mean_false_distance", "surface_dice"):
        assert one[key] == pytest.approx(other[key], nan_ok=True)
    assert all(0 <= v <= 1 for k, v in one.items() if k not in DISTANCES and k != "voi")
    itself = binary_scores(truth, truth, SIZE, mask)
    assert all(v == (1 if higher_is_better(k) else 0) for k, v in itself.items())


@pytest.mark.timed
@settings(max_examples=50)
@given(two_masks(), st.data())
def test_nothing_outside_the_mask_matters(
    masks: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    predicted, truth = masks
    mask = data.draw(hnp.arrays(bool, truth.shape).filter(np.any))
    other = data.draw(hnp.arrays(bool, truth.shape))
    one = binary_scores(predicted, truth, SIZE, mask)
    two = binary_scores(np.where(mask, predicted, other), truth | ~mask, SIZE, mask)
    assert one == pytest.approx(two, nan_ok=True)


def test_classes() -> None:
    predicted = np.array([[[0, 1, 1, 2, 2, 0]]], np.uint8)
    truth = np.array([[[0, 1, 1, 2, 0, 0]]], np.int16)
    scores = class_scores(predicted, truth, ["mito", "er"], SIZE)
    assert scores["mito/dice"] == 1
    assert scores["er/dice"] == pytest.approx(2 / 3)
    assert scores["mean/dice"] == pytest.approx(5 / 6)
    assert scores["mean/hausdorff"] == 2.5
    assert {k.split("/")[1] for k in scores} == set(binary_scores(truth > 0, truth > 0, SIZE))


def test_a_class_without_a_distance_does_not_leave_the_mean() -> None:
    truth = np.array([[[1, 2]]])
    scores = class_scores(np.array([[[1, 0]]]), truth, ["mito", "er"], SIZE)
    assert scores["mean/dice"] == 1 / 2
    assert math.isnan(scores["mean/hausdorff"])
    mask = np.array([[[True, False]]])
    masked = class_scores(np.array([[[1, 7]]]), truth, ["mito", "er"], SIZE, mask)
    assert masked["mean/dice"] == 1


ONE = np.ones((1, 2, 2), bool)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((ONE, ONE[:, :1], SIZE), r"\(1, 2, 2\).*\(1, 1, 2\)"),
        ((ONE, ONE, SIZE, ONE[0]), "mask"),
        ((ONE[0], ONE[0], SIZE), "three axes"),
        ((ONE, ONE, SIZE, ~ONE), "no voxel"),
        ((ONE[:0], ONE[:0], SIZE), "no voxel"),
        ((ONE, ONE, (4, 4)), "voxel size"),
        ((ONE, ONE, (4, 0, 4)), "voxel size"),
        ((ONE, ONE, SIZE, None, -1), "tolerance"),
    ],
)
def test_binary_says_what_is_wrong(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(SegError, match=said):
        binary_scores(*arguments)


@pytest.mark.parametrize("names", [[], ["er", "er"], ["mean"], ["a/b"]])
def test_class_names_must_make_keys(names: list[str]) -> None:
    with pytest.raises(SegError, match="class names"):
        class_scores(ONE.astype(int), ONE.astype(int), names, SIZE)


@pytest.mark.parametrize("wrong", [ONE * 2, ONE * -1, ONE * 1.0])
def test_classes_must_have_names(wrong: np.ndarray) -> None:
    with pytest.raises(SegError, match="truth"):
        class_scores(ONE.astype(int), wrong, ["er"], SIZE)
