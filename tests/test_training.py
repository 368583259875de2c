"""Training: the loop, its interruption, its curve."""

import numpy as np
import pytest
import torch
from small_training import UNET, make_run, same, small_store, trained

from seg_core.errors import SegError
from seg_core.run import load_run
from seg_core.store import Store
from seg_core.train import schedule, train, training_rows
from seg_core.training.checkpoint import (
    checkpoint_path,
    iterations,
    load_tensors,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("store"))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(store: Store) -> None:
    found = []
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        trainer = {"iterations": 2, "crop": [16, 16, 16], "seed": seed}
        found.append(trained(store, name, architecture=UNET, trainer=trainer)[1])
    assert same(found[0], found[1])
    assert not same(found[0], found[2])
    assert all(torch.isfinite(tensor).all() for tensor in found[0].values())


def test_what_was_interrupted_ends_as_what_was_not(store: Store) -> None:
    trainer = {"iterations": 6, "checkpoint_interval": 2}
    whole, weights = trained(store, "whole", trainer=trainer)
    assert iterations(whole) == [2, 4, 6]
    run = make_run(store, "parts", datasplit={"train": [{"volume": "p"}]}, trainer=trainer)

    def fall(row: dict[str, float]) -> None:
        if row["iteration"] == 4:  # before it was saved
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(run, fall)
    assert iterations(run) == [2]
    assert train(run) == 4
    assert same(load_tensors(run, checkpoint_path(run, 6))[0], weights)
    assert not store.exists("runs/parts/checkpoints/state.safetensors")
    assert not store.exists("runs/parts/train.lock")
    curves = [training_rows(r).drop(columns="seconds") for r in (whole, run)]
    assert curves[0].equals(curves[1])
    assert curves[1].iteration.tolist() == [1, 2, 3, 4, 5, 6]
    assert curves[1].iteration.dtype == np.int64
    assert train(run) == 0


def test_training_lowers_the_loss_of_the_phantom(store: Store) -> None:
    rows: list[dict[str, float]] = []
    trainer = {
        "iterations": 40,
        "crop": [16, 16, 16],
        "learning_rate": 0.01,
        "warm_up": 4,
        "augment": [{"kind": "mirror"}],
    }
    task = {"kind": "affinities", "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    run = make_run(
        store, "learns", datasplit={"train": [{"volume": "p"}]}, trainer=trainer, task=task
    )
    assert train(run, rows.append) == 40
    losses = [row["loss"] for row in rows]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    curve = training_rows(run)
    assert curve.loss.tolist() == losses
    assert np.allclose(curve.loss, curve.loss_bce + curve.loss_dice)
    rates = [0.01 * schedule(i, 4, 40) for i in range(40)]
    assert curve.learning_rate.tolist() == rates


def test_the_learning_rate_by_hand() -> None:
    assert [schedule(i, 4, 8) for i in range(4)] == [0.25, 0.5, 0.75, 1]
    # then half a cosine over four iterations: 0, 45, 90, 135 degrees
    half = 2**-0.5
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert [schedule(i, 4, 8) for i in range(4, 8)] == pytest.approx(expected, abs=1e-6)
    assert schedule(8, 4, 8) == pytest.approx(0, abs=1e-6)
    assert schedule(0, 0, 10) == 1
    assert [schedule(i, 5, 3) for i in range(3)] == pytest.approx([0.2, 0.4, 0.6])


def test_threads_are_those_of_the_first_use(store: Store) -> None:
    """They are part of what makes weights reproducible, so another machine takes them over."""
    before = torch.get_num_threads()
    run = make_run(store, "threads", compute={"threads": None})
    assert run.frozen.compute.threads is not None
    frozen = store.read_json("runs/threads/run.json")
    frozen["config"]["compute"]["threads"] = 3
    store.write_json("runs/threads/run.json", frozen)
    try:
        train(load_run(store, "threads"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_score_that_does_not_exist_is_refused_before_training(store: Store) -> None:
    with pytest.raises(SegError, match=r"bad\.yaml: validation.criterion: .*'voi_sun'"):
        make_run(store, "bad", validation={"criterion": "voi_sun"})
