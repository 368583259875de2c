"""Checkpoints scored while it trains: the same weights, and a signal stops the scoring at once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import RUN, make_run, make_volume

from seg_core.errors import SegError
from seg_core.run import Run, add_run
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.checkpoint import checkpoint_path
from seg_core.training.stop import Stop
from seg_core.validate import Best, train_and_score, validate
from seg_core.validation.best import read_best, read_scores

EVERY_FOUR = RUN.replace("iterations: 12", "iterations: 12, checkpoint_interval: 4") + (
    "validation: {interval: 4}\n"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    return store


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """SIGINT as in a terminal: the shell lets jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def weights(run: Run) -> bytes:
    raw = run.store.read_bytes(checkpoint_path(run, 12))
    return raw[8 + int.from_bytes(raw[:8], "little") :]


def test_every_interval_is_scored_and_changes_no_weight(store: Store) -> None:
    plain = make_run(store)
    train(plain)
    run = add_run(store, "scored", EVERY_FOUR.encode(), "scored.yaml")
    told: list[tuple[int, Best]] = []
    train_and_score(run, on_score=lambda iteration, best: told.append((iteration, best)))
    assert [iteration for iteration, _ in told] == [4, 8, 12]
    assert weights(run) == weights(plain)
    best, made = validate(run)
    assert made == 0
    assert sorted(set(read_scores(run).iteration)) == [4, 8, 12]
    assert (best, read_best(run)) == (told[-1][1], best)
    scores = [b.score for _, b in told]
    assert scores == sorted(scores, reverse=True)  # of an error: the best so far never gets worse


def test_while_it_trains_nothing_is_chosen_for_use(store: Store) -> None:
    run = add_run(store, "half", EVERY_FOUR.encode(), "half.yaml")
    with pytest.raises(KeyboardInterrupt):
        train_and_score(run, on_score=interrupt)
    with pytest.raises(SegError, match="no best checkpoint yet"):
        read_best(run)
    assert train_and_score(run) == 8


def interrupt(iteration: int, best: Best) -> None:
    signal.raise_signal(signal.SIGINT)
    raise AssertionError(f"went on after a signal: {iteration}, {best}")


def test_a_signal_noted_before_takes_effect_when_stopping_is_allowed() -> None:
    with pytest.raises(KeyboardInterrupt), Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked == signal.SIGINT
        with stop.lifted():
            raise AssertionError("went on")


def test_an_interval_between_checkpoints_is_refused(tmp_path: Path) -> None:
    text = EVERY_FOUR.replace("interval: 4}\n", "interval: 6}\n")
    with pytest.raises(SegError, match=r"validation.interval: 6 is no multiple of .*, which is 4"):
        add_run(Store(str(tmp_path)), "odd", text.encode(), "odd.yaml")
