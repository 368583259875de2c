"""Classes of a user's own take the place of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_kinds import Voxels
from small_training import as_dict, augmented, crops_of, make_run, small_store
from stores import (
    assert_same_partition,
    give_prediction,
    ideal_affinities,
    ideal_segments,
    output_for,
    read,
)

from seg_core.blockwise.engine import Options
from seg_core.errors import SegError
from seg_core.fragments import make_fragments
from seg_core.lut import make_lut
from seg_core.run import Run, load_run
from seg_core.segmentation import make_segmentation
from seg_core.store import Store
from seg_core.train import train, training_rows
from seg_core.training.checkpoint import load_network
from seg_core.validate import validate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("store"))


def reopened(run: Run) -> Run:
    """The run as the next process sees it, frozen."""
    _ = run.frozen
    again = load_run(run.store, run.name)
    assert again.frozen == run.frozen
    return again


def test_an_architecture_of_the_users_own(store: Store) -> None:
    run = reopened(make_run(store, "mine", architecture={"kind": "own_kinds:Plain", "width": 17}))
    assert train(run) == 3
    network = load_network(run, 3)[0]
    assert network[0].weight.shape == (17, 1, 3, 3, 3)


def test_an_augmentation_of_the_users_own(store: Store) -> None:
    mine = {"kind": "own_kinds:Brighter", "by": 5.0}
    run = reopened(make_run(store, "bright", trainer={"augment": [mine]}))
    got, base = as_dict(crops_of(run).batch(0)), as_dict(augmented(store).batch(0))
    assert torch.equal(got["raw"], base["raw"] + 5)
    assert torch.equal(got["ids"], base["ids"])


def test_a_task_of_the_users_own(store: Store) -> None:
    """From training to the choice of the best."""
    parts = {"train": "0:20, 0:16, 0:16", "validate": "0:20, 0:16, 16:28"}
    run = make_run(
        store,
        "inside",
        datasplit={part: [{"volume": "v", "roi": roi}] for part, roi in parts.items()},
        task={"kind": "own_kinds:Inside"},
        trainer={"iterations": 30, "learning_rate": 0.02},
    )
    train(reopened(run))
    best, _ = validate(run)
    assert (best.criterion, best.iteration, best.parameters) == ("dice", 30, {})
    assert best.score > 0.9
    assert "loss_square" in training_rows(run)


def test_a_post_processor_of_the_users_own(tmp_path: Path) -> None:
    """All that is left to the look-up table is left to it."""
    labels = np.array([[1, 1, 2, 2, 2, 2, 3, 3]] * 4).reshape(1, 4, 8).repeat(4, 0)
    labels[2:, 2:] = 4
    output = output_for(tmp_path, labels.shape, block=(4, 4, 4), chunk=(2, 2, 2))
    config = {
        "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "postprocess": {
            "kind": "own_kinds:Voxels",
            "sub_block": [2, 2, 2],
            "agglomeration": {"threshold": [0.4, 0.5]},
        },
    }
    run = reopened(make_run(output.store, "own", task={"kind": "affinities"} | config))
    task = run.frozen.task
    assert isinstance(task.postprocess, Voxels)
    assert len(task.postprocess.choices()) == 4  # with the two size penalties
    give_prediction(output, ideal_affinities(labels, task.neighbours))
    make_fragments(task, output, 8, None, Options())
    table, _ = make_lut(task, output, task.postprocess.choices()[0])
    make_segmentation(task, output, None, Options())
    assert table.figures["fragments"] == 128
    assert_same_partition(read(output, "segmentation"), ideal_segments(labels))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("own_kinds:Nothing", ["cannot import 'own_kinds:Nothing'", "Nothing"]),
        ("nowhere.at_all:Thing", ["cannot import", "nowhere"]),
        (".relative:Thing", ["cannot import '.relative:Thing'"]),
        (":Thing", [":Thing"]),
        ("own_kinds:", ["cannot import 'own_kinds:'"]),
        ("own_kinds:Voxels", ["is no Architecture"]),
        ("small_training:KEYS", ["is no Architecture"]),
        ("resnet", ["unknown kind 'resnet'; known: unet, or package.module:Name"]),
        (None, ["unknown kind None"]),
    ],
)
def test_a_class_that_cannot_be_taken_is_named(
    store: Store, kind: str | None, words: list[str]
) -> None:
    with pytest.raises(SegError, match=r"bad\.yaml: architecture: ") as refused:
        make_run(store, "bad", architecture={"kind": kind})
    for word in words:
        assert word in str(refused.value)
