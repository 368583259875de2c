"""A run that starts from the weights of an earlier one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_project import add, copy_of, finish

from seg_core.errors import SegError
from seg_core.run import Run, load_run
from seg_core.store import Store
from seg_core.train import train, training_rows
from seg_core.training.checkpoint import checkpoint_path, iterations, load_tensors
from seg_core.training.start import read_start


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Store:
    return copy_of(project, tmp_path)


def weights(run: Run, iteration: int) -> dict[str, torch.Tensor]:
    return load_tensors(run, checkpoint_path(run, iteration))[0]


def test_the_first_weights_are_those_of_the_start(store: Store) -> None:
    crawl = {"iterations": 1, "warm_up": 0, "learning_rate": 1e-12, "weight_decay": 0}
    best = add(store, "best", start={"run": "tiny"}, trainer=crawl)
    eight = add(store, "eight", start={"run": "tiny", "iteration": 8}, trainer=crawl)
    train(best)
    train(eight)
    tiny = load_run(store, "tiny")
    for run, iteration in ((best, 12), (eight, 8)):
        expected = weights(tiny, iteration)
        for name, values in weights(run, 1).items():
            if "running" not in name and "batches" not in name:  # these are no parameters
                assert torch.allclose(values, expected[name], atol=1e-9), name
        start = read_start(run)
        assert start is not None
        assert (start.run, start.iteration) == ("tiny", iteration)
    assert read_start(tiny) is None


def test_the_same_start_gives_the_same_bytes_and_another_does_not(store: Store) -> None:
    runs = [
        add(store, name, start={"run": "tiny", "iteration": at}, trainer={"iterations": 2})
        for name, at in (("one", 12), ("two", 12), ("three", 8))
    ]
    for run in runs:
        train(run)
    made_from = [load_tensors(run, checkpoint_path(run, 2))[1]["made_from"] for run in runs]
    assert made_from[0] == made_from[1] != made_from[2]
    one, two, three = (weights(run, 2) for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)
    assert all(train(run) == 0 for run in runs)


def test_what_was_interrupted_goes_on_though_the_start_is_gone(store: Store) -> None:
    whole = add(store, "whole", start={"run": "tiny"})
    train(whole)
    parts = add(store, "parts", start={"run": "tiny"})

    def fall(row: dict[str, float]) -> None:
        if row["iteration"] == 6:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(parts, fall)
    assert iterations(parts) == [4]
    store.remove("runs/tiny.yaml")
    store.remove("runs/tiny")
    assert train(load_run(store, "parts")) == 8
    expected = weights(whole, 12)
    assert all(torch.equal(v, expected[name]) for name, v in weights(parts, 12).items())
    assert train(parts) == train(whole) == 0
    curves = [training_rows(run).drop(columns="seconds") for run in (whole, parts)]
    assert curves[0].equals(curves[1])


def test_weights_that_were_made_anew_are_not_taken_for_those_of_the_start(store: Store) -> None:
    run = add(store, "child", start={"run": "tiny"})

    def fall(_: dict[str, float]) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):  # before any of it was saved
        train(run, fall)
    store.remove("runs/tiny")
    finish(add(store, "tiny", trainer={"seed": 1}))
    with pytest.raises(SegError, match="weights that run tiny holds no more; use a new run name"):
        train(run)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": {"run": "nobody"}}, "no run 'nobody' .*there: begun, tiny"),
        ({"start": {"run": "begun"}}, "run begun, which has no best checkpoint; .*seg train begun"),
        ({"start": {"run": "tiny", "iteration": 5}}, "run tiny, which has no checkpoint 5; make"),
        (
            {"start": {"run": "tiny"}, "architecture": {"features": [4, 6, 10]}},
            r"architecture.features is \[4, 6, 8\] there and \[4, 6, 10\] here$",
        ),
        (
            {"start": {"run": "tiny"}, "task": {"kind": "one_hot", "classes": {"cell": [1]}}},
            r"task's channels is \[.*\] there and \['background', 'cell'\] here$",
        ),
        ({"start": {"run": "tiny", "iteration": 0}}, "start.iteration: input should be greater"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_when_the_run_is_added(
    store: Store, changed: dict[str, Any], message: str
) -> None:
    add(store, "begun")
    with pytest.raises(SegError, match=message):
        add(store, "child", **changed)
    assert not store.exists("runs/child.yaml")


def test_a_start_that_does_not_fit_any_more_is_refused_before_training(store: Store) -> None:
    run = add(store, "child", start={"run": "tiny", "iteration": 8})
    store.remove("runs/tiny/checkpoints/8.safetensors")
    with pytest.raises(SegError, match="cannot start from run tiny, which has no checkpoint 8"):
        train(run)
    assert not store.exists("runs/child")  # not even frozen
