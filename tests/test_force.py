"""Forced once: whoever asks again under the same token goes on, and makes nothing twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stores import give_prediction, ideal_affinities, output_for, random_labels

from seg_core.blockwise.engine import Options, Outcome
from seg_core.blockwise.make_block import KILLS
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record
from seg_core.errors import BlocksFailed
from seg_core.fragments import Fragments, make_fragments
from seg_core.lut import make_lut
from seg_core.postprocess.watershed import Watershed
from seg_core.tasks.affinities import Affinities

DIRECT = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
TASK = Affinities(postprocess=Watershed(weak_voxels="own", sub_block=(4, 4, 4)), offsets=[*DIRECT])
FIRST, SECOND = "z0000y0000x0000", "z0000y0000x0001"
PARAMETERS = {"threshold": 0.5, "size_penalty": 0.0, "repulsion": 0.0, "min_size": 0.0}


class Stopped:
    """Lets a step label so many sub-blocks, and then ends it as a signal or an error would."""

    def __init__(self, patch: pytest.MonkeyPatch, pieces: int, how: BaseException) -> None:
        self.label, self.left, self.how = Watershed.label, pieces, how
        # a function, so that it is bound
        patch.setattr(Watershed, "label", lambda *given: self(*given))  # noqa: PLW0108

    def __call__(self, *given: Any) -> NDArray[np.uint64]:
        if self.left == 0:
            raise self.how
        self.left -= 1
        return self.label(*given)


class Killed(BaseException):
    """SIGKILL: nothing is written after it."""


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """Two blocks of 8 sub-blocks each."""
    shape = (8, 8, 16)
    truth = random_labels(np.random.default_rng(2), shape, range(1, 6), (3, 3, 3))
    found = output_for(tmp_path, shape, block=(8, 8, 8), chunk=(4, 4, 4))
    give_prediction(found, ideal_affinities(truth, DIRECT))
    return found


def make(output: Output, force: str = "", keys: list[str] | None = None) -> Outcome:
    return make_fragments(TASK, output, 8, keys, Options(force=force))


def record(output: Output, key: str = FIRST) -> Record:
    return Fragments(output, TASK, 8).records.read(key)


def test_a_token_forces_once(output: Output) -> None:
    assert make(output).made == [FIRST, SECOND]
    assert make(output, "monday", [FIRST]).made == [FIRST]
    assert make(output, "monday") == Outcome([SECOND], [FIRST])
    assert make(output, "monday") == Outcome([], [FIRST, SECOND])
    assert make(output) == Outcome([], [FIRST, SECOND])
    assert make(output, "tuesday").made == [FIRST, SECOND]
    assert record(output).forced == "tuesday"


@pytest.mark.parametrize("again", ["monday", ""])
def test_a_forced_block_that_was_interrupted_goes_on(
    again: str, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(output)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Stopped(patch, 3, KeyboardInterrupt())
        make(output, "monday")
    assert make(output, again).made == ([FIRST, SECOND] if again else [FIRST])
    assert record(output).figures["sub_blocks_resumed"] == 3
    assert record(output).forced == "monday"
    assert make(output, "monday").made == ([] if again else [SECOND])


def test_another_token_forgets_what_was_begun(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("", "monday"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            Stopped(patch, 5, KeyboardInterrupt())
            make(output, token)
    make(output, "tuesday")
    assert record(output).figures["sub_blocks_resumed"] == 0


@pytest.mark.slow
def test_workers_force_once_too(output: Output) -> None:
    for blocks in ([FIRST], [FIRST, SECOND]):  # its sub-blocks are spread, or both blocks
        options = Options(2, "-".join(blocks))
        assert make_fragments(TASK, output, 8, blocks, options).made == blocks
        assert make_fragments(TASK, output, 8, blocks, options).passed == blocks
    assert record(output).figures["peak_memory_mb"] > 10


def test_the_table_is_forced_once(output: Output) -> None:
    make(output)
    made = [make_lut(TASK, output, PARAMETERS, force=f)[1] for f in ("", "", "a", "a", "", "b")]
    assert made == [True, False, True, False, False, True]


def test_only_failures_count_as_tries(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[BaseException] = [KeyboardInterrupt(), SystemExit(), MemoryError(), OSError("disk")]
    seen = []
    for how in ends:
        with monkeypatch.context() as patch, pytest.raises((type(how), BlocksFailed)):
            Stopped(patch, 0, how)
            make(output, keys=[FIRST])
        seen.append((record(output).state, record(output).tries, record(output).begun))
    assert seen == [("missing", 0, 0), ("missing", 0, 0), ("failed", 1, 0), ("failed", 2, 0)]
    make(output)
    assert (record(output).state, record(output).tries) == ("done", 2)
    assert record(output).figures["peak_memory_mb"] > 10


def test_failures_of_other_inputs_do_not_count(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for labels in (np.ones((8, 8, 16), int), np.zeros((8, 8, 16), int)):
        give_prediction(output, ideal_affinities(labels, DIRECT))
        with monkeypatch.context() as patch, pytest.raises(BlocksFailed, match="MemoryError"):
            Stopped(patch, 0, MemoryError())
            make(output, keys=[FIRST])
        assert record(output).tries == 1


def killed(output: Output, patch: pytest.MonkeyPatch, pieces: int) -> None:
    """A process that dies after so many sub-blocks, each noted, and writes no word of it."""
    write = type(Fragments(output, TASK, 8).records).write

    def written(records: Any, key: str, now: Record) -> None:
        if not dying:
            write(records, key, now)

    def end(stopped: Stopped, *given: Any) -> NDArray[np.uint64]:
        if stopped.left == 0:
            dying.append(True)
        return Stopped.__call__(stopped, *given)

    dying: list[bool] = []
    stopped = Stopped(patch, pieces, Killed())
    patch.setattr(Watershed, "label", lambda *given: end(stopped, *given))
    patch.setattr("seg_core.blockwise.records.Records.write", written)
    with pytest.raises(Killed):
        make(output, keys=[FIRST])


def test_a_block_that_kills_its_process_again_and_again_fails(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(KILLS):
        with monkeypatch.context() as patch:
            killed(output, patch, pieces=0)
        assert record(output).begun == number + 1
    with pytest.raises(BlocksFailed, match=f"killed {KILLS} times in the middle of it") as error:
        make(output)
    assert list(error.value.failed) == [FIRST]  # and the others are made
    assert record(output).tries == 1
    assert make(output).made == [FIRST]  # asked again it is tried again


def test_a_block_that_gets_further_at_each_kill_does_not_fail(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(KILLS + 3):
        with monkeypatch.context() as patch:
            killed(output, patch, pieces=1)
        assert record(output).begun == 1
    assert make(output, keys=[FIRST]).made == [FIRST]
    assert record(output).figures["sub_blocks_resumed"] == KILLS + 3
    assert record(output).tries == 0


def test_records_of_before_are_read(output: Output) -> None:
    make(output)
    records = Fragments(output, TASK, 8).records
    old = {k: v for k, v in record(output).__dict__.items() if k not in ("forced", "begun")}
    output.store.write_json(f"{records.folder}/{FIRST}.json", old)
    assert record(output) == replace(record(output), forced="", begun=0)
    assert make(output).made == []
