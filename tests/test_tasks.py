"""What the tasks learn from labels, worked out by hand, and what their losses read."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.schema import validate
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.tasks.task import Task

DIRECT = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
# two objects along x, then three voxels of label 0
ROW = [7, 7, 7, 7, 4, 4, 4, 0, 0, 0]


def volume(values: Any) -> NDArray[np.int64]:
    """A (z, y, x) volume from a row or a section."""
    array = np.asarray(values, np.int64)
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def target_of(
    task: Task, labels: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Target and weight, (c, z, y, x), of labels as they are stored."""
    ids, known = task.prepare(labels)
    assert (ids.dtype, known.dtype) == (np.int32, np.bool_)
    target, weight = task.target(torch.from_numpy(ids)[None], torch.from_numpy(known)[None])
    assert target.shape == weight.shape == (1, len(task.channels), *labels.shape)
    assert target.dtype == weight.dtype == torch.float32
    return target[0].numpy(), weight[0].numpy(), task.channels


def along_x(values: NDArray[np.float32]) -> list[int]:
    return [int(value) for value in values[0, 0]]


def test_affinities_of_a_row_by_hand() -> None:
    task = Affinities(offsets=[*DIRECT, (0, 0, 3)])
    target, weight, channels = target_of(task, volume(ROW))
    assert channels == ["z+1", "y+1", "x+1", "x+3"]
    # what is left of the objects where they meet others: [7 7 7 . . 4 . . . .]
    assert along_x(target[2]) == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert along_x(target[3]) == [0] * 10
    # pairs with a voxel of label 0 are not read, nor those that reach beyond the crop
    assert along_x(weight[2]) == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert along_x(weight[3]) == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    # one voxel along z and y has no neighbour there
    assert not target[:2].any()
    assert not weight[:2].any()


def test_label_0_may_be_known_to_be_nothing() -> None:
    task = Affinities(offsets=[*DIRECT, (0, 0, 3)], background="known")
    target, weight, _ = target_of(task, volume(ROW))
    assert along_x(target[2]) == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]  # background is no object
    assert along_x(weight[2]) == [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    assert along_x(weight[3]) == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_without_erosion_objects_reach_their_border() -> None:
    task = Affinities(offsets=[*DIRECT, (0, 0, 3), (0, 0, 9), (0, 0, 50)], erode=[1, 1, 0])
    target, weight, _ = target_of(task, volume(ROW))
    assert along_x(target[2]) == [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert along_x(target[3]) == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert not weight[4].any()  # its one pair ends in label 0
    assert not weight[5].any()  # an offset longer than the crop
    known = task.model_copy(update={"background": "known"})
    assert along_x(target_of(known, volume(ROW))[1][4]) == [1] + [0] * 9


@pytest.mark.parametrize(
    ("erode", "x_pairs", "y_pairs"),
    [
        # object 1 fills the left three columns, object 2 the fourth
        ([0, 0, 0], ["110.", "110.", "110."], ["1111", "1111", "...."]),
        ([0, 0, 1], ["100.", "100.", "100."], ["1100", "1100", "...."]),
        ([1, 1, 0], ["110.", "110.", "110."], ["1111", "1111", "...."]),
    ],
)
def test_erosion_is_along_the_axes_that_are_named(
    erode: list[int], x_pairs: list[str], y_pairs: list[str]
) -> None:
    section = [[1, 1, 1, 2]] * 3
    target, weight, _ = target_of(Affinities(offsets=DIRECT, erode=erode), volume(section))
    for channel, expected in ((2, x_pairs), (1, y_pairs)):
        for y, row in enumerate(expected):
            pairs = [c for c in range(4) if row[c] != "."]
            assert np.flatnonzero(weight[channel, 0, y]).tolist() == pairs
            assert [int(target[channel, 0, y, c]) for c in pairs] == [int(row[c]) for c in pairs]


def test_every_axis_is_treated_alike() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).repeat(2, 0).repeat(2, 1)
    task = Affinities(offsets=[*DIRECT, (2, 0, 0), (0, 2, 0), (0, 0, 2)])
    target, weight, _ = target_of(task, labels)
    turned = (2, 0, 1)  # z of the turned volume is x, y is z, x is y
    other, other_weight, _ = target_of(task, labels.transpose(turned))
    order = [turned.index(axis) for axis in range(3)]  # where z, y, x have gone
    channels = [*order, *(3 + axis for axis in order)]
    np.testing.assert_array_equal(target.transpose(0, 3, 1, 2), other[channels])
    np.testing.assert_array_equal(weight.transpose(0, 3, 1, 2), other_weight[channels])


def test_crops_of_a_batch_do_not_meet() -> None:
    task = Affinities(offsets=[*DIRECT, (0, 0, 3)])
    rows = [volume(ROW), volume(ROW[::-1])]
    both = [torch.from_numpy(np.stack(part)) for part in zip(*map(task.prepare, rows), strict=True)]
    target, weight = task.target(*both)
    for number, row in enumerate(rows):
        single, single_weight, _ = target_of(task, row)
        np.testing.assert_array_equal(target[number], single)
        np.testing.assert_array_equal(weight[number], single_weight)


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        (ROW, [2, 2, 2, 2, 1, 1, 1, 0, 0, 0]),
        ([9, 9, 3], [2, 2, 1]),  # no label 0
        ([-1, 0, 5, -1], [1, 0, 2, 1]),  # 0 alone is special
        ([0, 0], [0, 0]),
    ],
)
def test_each_label_is_an_object(labels: list[int], ids: list[int]) -> None:
    found, known = Affinities().prepare(volume(labels))
    assert found[0, 0].tolist() == ids
    assert known[0, 0].tolist() == [label != 0 for label in labels]
    _, known = Affinities(background="known").prepare(volume(labels))
    assert known.all()


def test_labels_beyond_32_bits_stay_apart() -> None:
    labels = np.array([[[2**63 + 1, 1, 2**63 + 1, 2**32 + 1, 0]]], np.uint64)
    ids, _ = Affinities().prepare(labels)
    assert ids[0, 0].tolist() == [3, 1, 3, 2, 0]


def test_objects_by_value_are_what_touches_by_faces() -> None:
    section = [
        [5, 5, 0, 1],
        [0, 0, 5, 1],  # touches the others by an edge only
        [6, 1, 1, 1],
        [5, 1, 5, 5],
    ]
    ids, known = Affinities(objects=[5, 6]).prepare(volume(section))
    assert known.all()  # what is of no such value is known to be none
    assert (ids > 0).tolist() == np.isin(volume(section), [5, 6]).tolist()
    assert ids.max() == 4
    assert ids[0, 0, 0] == ids[0, 0, 1] != ids[0, 1, 2]
    assert ids[0, 2, 0] == ids[0, 3, 0]  # of two values, but they touch
    assert ids[0, 3, 2] == ids[0, 3, 3]
    target, weight, _ = target_of(
        Affinities(objects=[5, 6], offsets=DIRECT, erode=[0, 0, 0]), volume(section)
    )
    assert [[int(v) for v in row] for row in target[2, 0]] == [
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(weight[2, 0], [[1, 1, 1, 0]] * 4)


CLASSES = OneHot(classes={"membrane": [0, 32], "mitochondria": [191]}, unknown=[255])


def test_classes_by_hand() -> None:
    row = volume([0, 32, 100, 191, 255])
    ids, known = CLASSES.prepare(row)
    assert ids[0, 0].tolist() == [1, 1, 0, 2, 0]
    assert known[0, 0].tolist() == [True, True, True, True, False]
    target, weight, channels = target_of(CLASSES, row)
    assert channels == ["background", "membrane", "mitochondria"]
    assert [along_x(channel) for channel in target] == [
        [0, 0, 1, 0, 1],
        [1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
    ]
    assert [along_x(channel) for channel in weight] == [[1, 1, 1, 1, 0]] * 3


TASKS: list[Task] = [Affinities(offsets=[*DIRECT, (0, 0, 3)]), CLASSES]


def example(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and weight of a crop with objects and unknown voxels."""
    random = np.random.default_rng(3)
    values = [0, 1, 2] if isinstance(task, Affinities) else [32, 100, 191, 255]
    labels = random.choice(values, (3, 4, 4)).repeat(2, 0).repeat(3, 1).repeat(3, 2)
    ids, known = task.prepare(labels)
    target, weight = task.target(torch.from_numpy(ids)[None], torch.from_numpy(known)[None])
    assert 0 < weight.mean() < 1
    return target, weight


def total(task: Task, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> float:
    terms = task.loss(logits, target, weight)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    return sum(term.item() for term in terms.values())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_the_right_answer_costs_least(task: Task) -> None:
    target, weight = example(task)
    right = 16 * target - 8
    costs = [total(task, sign * right, target, weight) for sign in (1, 0.1, 0, -0.1, -1)]
    assert costs == sorted(costs)
    assert costs[0] < 0.02
    assert costs[2] > 0.5
    assert costs[-1] > 2
    every_term = [task.loss(sign * right, target, weight) for sign in (1, -1)]
    for name in every_term[0]:
        assert every_term[0][name] < every_term[1][name]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_what_is_unknown_is_not_read(task: Task) -> None:
    target, weight = example(task)
    logits = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    first = logits.clone().requires_grad_()
    loss = torch.stack(list(task.loss(first, target, weight).values())).sum()
    loss.backward()
    assert first.grad is not None
    assert not first.grad[weight == 0].any()
    assert (first.grad[weight > 0] != 0).float().mean() > 0.9
    changed = torch.where(weight == 0, -3 * logits + 1, logits)
    assert total(task, changed, target, weight) == total(task, logits, target, weight)
    # nor what the target says there
    other = torch.where(weight == 0, target.flip(1), target)
    assert total(task, logits, other, weight) == total(task, logits, target, weight)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_crop_without_any_known_voxel_has_a_finite_loss(task: Task) -> None:
    target, weight = example(task)
    logits = torch.zeros_like(target, requires_grad=True)
    loss = torch.stack(list(task.loss(logits, target, weight * 0).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_activations_are_probabilities() -> None:
    logits = torch.tensor([[0.0], [1.0], [np.log(2)]]).reshape(1, 3, 1, 1, 1)
    sigmoid = Affinities(offsets=DIRECT).activation(logits)
    assert sigmoid.flatten().tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1)), 2 / 3])
    softmax = CLASSES.activation(logits)
    whole = 1 + np.e + 2
    assert softmax.flatten().tolist() == pytest.approx([1 / whole, np.e / whole, 2 / whole])


def test_a_perfect_segmentation_scores_best() -> None:
    labels = volume(ROW)
    segmentation = np.where(labels == 7, 3, 9).astype(np.uint64)
    scores = Affinities().scores(segmentation, labels, (1.0, 1.0, 1.0))
    assert (scores["voi_sum"], scores["adapted_rand_error"]) == (0, 0)
    assert scores["f1_50"] == 1  # what lies on unknown voxels counts for nothing
    # a segment on what is known to be nothing is one too many
    beyond = np.where(labels == 0, 5, segmentation)
    known = Affinities(background="known").scores(beyond, labels, (1.0, 1.0, 1.0))
    assert known["precision_50"] == pytest.approx(2 / 3)
    by_value = Affinities(objects=[7]).scores((labels == 7).astype(np.uint64), labels, (1, 1, 1))
    assert by_value["f1_50"] == 1
    with pytest.raises(SegError, match="no object"):
        Affinities(objects=[8]).scores(segmentation, labels, (1, 1, 1))


def test_unknown_voxels_score_nothing() -> None:
    labels = volume([0, 32, 100, 191, 255, 255])
    scores = CLASSES.scores(volume([1, 1, 0, 2, 2, 1]), labels, (1, 1, 1))
    assert scores["membrane/dice"] == scores["mitochondria/dice"] == scores["mean/dice"] == 1
    scores = CLASSES.scores(volume([1, 0, 0, 2, 2, 1]), labels, (1, 1, 1))
    assert scores["membrane/dice"] == pytest.approx(2 / 3)


def test_every_task_names_a_score_that_it_makes() -> None:
    labels = volume(ROW)
    for task, segmentation in ((Affinities(), labels), (CLASSES, labels * 0)):
        found = task.scores(segmentation.astype(np.uint64), labels, (1, 1, 1))
        assert task.criterion in found


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"offsets": [[-1, 0, 0], [0, 1, 0]]}, ["offsets", "(-1, 0, 0)", "of [1, 0, 0]"]),
        ({"offsets": [[1, 1, 0], [0, 1, 0]]}, ["(1, 1, 0)", "one positive number"]),
        ({"offsets": [[0, 0, 0], [0, 1, 0]]}, ["(0, 0, 0)"]),
        ({"offsets": [[1, 0], [0, 1, 0]]}, ["offsets.0"]),
        ({"offsets": []}, ["distance 1 (at least two) come first"]),
        ({"offsets": [[1, 0, 0]]}, ["at least two"]),
        ({"offsets": [[1, 0, 0], [0, 0, 9], [0, 1, 0]]}, ["longer ones after"]),
        ({"offsets": [[1, 0, 0], [0, 1, 0], [1, 0, 0]]}, ["(1, 0, 0)", "twice"]),
        ({"erode": [1, 1]}, ["erode"]),
        ({"erode": [2, 1, 1]}, ["erode.0", "given: 2"]),
        ({"background": "maybe"}, ["background"]),
        ({"classes": {"a": [1]}}, ["classes", "no field that is known"]),
        ({"postprocess": {"kind": "argmax"}}, ["argmax makes classes", "take watershed"]),
        ({"postprocess": {"kind": "argmix"}}, ["unknown kind 'argmix'", "mutex_watershed"]),
    ],
)
def test_affinities_that_cannot_be(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SegError, match=r"^run\.yaml: ") as refused:
        validate(Affinities, config, "run.yaml")
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["classes", "missing"]),
        ({"classes": {}}, ["classes"]),
        ({"classes": {"a": [1, 2], "b": [2]}}, ["2", "more than one"]),
        ({"classes": {"a": [1]}, "unknown": [1]}, ["1", "more than one"]),
        ({"classes": {"a/b": [1]}}, ["a/b", "without '/'"]),
        ({"classes": {"mean": [1]}}, ["none of them 'mean'"]),
        ({"classes": {"a": [1]}, "postprocess": {"kind": "watershed"}}, ["watershed", "argmax"]),
        ({"classes": {"a": [1]}, "offsets": [[1, 0, 0]]}, ["offsets", "no field that is known"]),
    ],
)
def test_classes_that_cannot_be(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SegError, match=r"^run\.yaml: ") as refused:
        validate(OneHot, config, "run.yaml")
    for word in words:
        assert word in str(refused.value)


def test_the_same_value_twice_in_a_class_does_no_harm() -> None:
    assert validate(OneHot, {"classes": {"a": [1, 1]}}, "run.yaml").classes == {"a": [1, 1]}
