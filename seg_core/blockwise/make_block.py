"""One block: its pieces one after the other, each noted as it ends, and its record last."""

import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from seg_core.blockwise.memory import peak_megabytes, reset_peak
from seg_core.blockwise.records import Record
from seg_core.blockwise.stage import Stage, Work
from seg_core.errors import SegError
from seg_core.lease import Lease

KILLS = 3
"""How often in a row a block may take its process with it, without a sub-block more each time."""


def make_block(stage: Stage, work: Work) -> None:
    """Make one block and record it, done or failed; only what ends the process gets out."""
    records, key = stage.records, work.key
    what = f"{stage.name} of block {key}"
    with Lease(stage.output.store, lease_path(stage, key), what):
        before = records.read(key)
        if _is_made(before, work):
            return  # another process made it since we looked
        begun = _begin(stage, work, before)
        if begun.begun > KILLS:
            records.write(key, failed(begun, _KILLED))
            return
        # from here on voxels are written over, so the block is no longer what its record says
        records.write(key, begun)
        try:
            # read before it is used: a change in between is found by the next who looks
            contents = work.contents or stage.contents(key)
            content, figures = _measured(stage, work)
        except Exception as error:
            records.write(key, failed(begun, _reason(error)))
            return
        except BaseException:  # the end was asked for: that is no fault of the block
            records.write(key, replace(begun, begun=begun.begun - 1))
            raise
        ended = Record("done", work.inputs, content, figures, tries=begun.tries)
        records.write(key, replace(ended, forced=work.force, contents=contents))
        records.forget_parts(key)
        stage.tidy(key)


def empty_block(stage: Stage, key: str) -> None:
    """Take away what a block holds that lies outside the mask now."""
    with Lease(stage.output.store, lease_path(stage, key), f"{stage.name} of block {key}"):
        stage.records.write(key, Record("missing"))
        stage.empty(key)
        stage.records.forget_parts(key)
        stage.tidy(key)
        stage.records.forget(key)


def failed(begun: Record, reason: str) -> Record:
    """The record of a block that was begun and failed."""
    return replace(begun, state="failed", error=reason, tries=begun.tries + 1, begun=0)


_KILLED = (
    f"its process was killed {KILLS} times in the middle of it, and got no further each time; if "
    "that was for want of memory, give it more, or smaller blocks"
)


def _is_made(before: Record, work: Work) -> bool:
    same = before.state == "done" and before.inputs == work.inputs
    return same and work.force in ("", before.forced)


def _begin(stage: Stage, work: Work, before: Record) -> Record:
    """The record of a block that is being made."""
    again = before.state in ("failed", "missing") and before.inputs == work.inputs
    resumed = len(stage.records.read_parts(work.key, work.inputs, work.force))
    further = resumed > before.figures.get("sub_blocks_resumed", 0)
    return Record(
        "missing",
        work.inputs,
        figures={"sub_blocks_resumed": resumed},
        tries=before.tries if again else 0,
        begun=before.begun + 1 if again and not further else 1,
        forced=work.force,
    )


def _measured(stage: Stage, work: Work) -> tuple[str, dict[str, float]]:
    reset_peak()
    began = time.monotonic()
    content, figures = _make_pieces(stage, work)
    seconds = time.monotonic() - began
    voxels = stage.output.grid.box(work.key).voxels
    figures |= {"seconds": seconds, "voxels": voxels, "voxels_per_second": voxels / seconds}
    return content, figures | {"peak_memory_mb": peak_megabytes()}


def lease_path(stage: Stage, key: str) -> str:
    """The lease that whoever makes the block holds."""
    return f"{stage.records.folder}/{key}.lock"


def _reason(error: Exception) -> str:
    if isinstance(error, SegError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _make_pieces(stage: Stage, work: Work) -> tuple[str, dict[str, float]]:
    pieces = stage.sub_blocks(stage.output.grid.box(work.key))
    with _Parts(stage, work) as parts:
        resumed = len(parts.done)
        todo = [number for number in range(len(pieces)) if number not in parts.done]
        for number, digest in _made(lambda n: stage.make(work.key, pieces[n]), todo, stage.at_once):
            parts.note(number, digest)
        content, figures = stage.finish(work.key, [parts.done[n] for n in range(len(pieces))])
    return content, {**figures, "sub_blocks": len(pieces), "sub_blocks_resumed": resumed}


def _made(
    make: Callable[[int], str], numbers: list[int], at_once: int
) -> Iterator[tuple[int, str]]:
    """Pieces and their digests, each as it ends; after one that failed no other is begun."""
    if at_once == 1:
        yield from ((number, make(number)) for number in numbers)
        return
    coming, running = iter(numbers), dict[Future[str], int]()
    error: BaseException | None = None
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            room = 0 if error else at_once - len(running)
            running |= {pool.submit(make, number): number for number in islice(coming, room)}
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                number, error = running.pop(ended), error or ended.exception()
                if ended.exception() is None:
                    yield number, ended.result()
    if error:
        raise error


class _Parts:
    """Sub-blocks done, noted in the store every so often and whenever the work stops."""

    def __init__(self, stage: Stage, work: Work) -> None:
        self.records, self.work = stage.records, work
        self.every = 1.0 if stage.output.store.is_local else 10.0
        self.writer = uuid4().hex
        self.own: dict[int, str] = {}

    def __enter__(self) -> "_Parts":
        self.done = self.records.read_parts(self.work.key, self.work.inputs, self.work.force)
        self.noted, self.saved = len(self.own), time.monotonic()
        return self

    def note(self, number: int, digest: str) -> None:
        self.own[number] = self.done[number] = digest
        if time.monotonic() - self.saved >= self.every:
            self._save()

    def _save(self) -> None:
        key, inputs, force = self.work.key, self.work.inputs, self.work.force
        self.records.write_parts(key, inputs, self.writer, self.own, force)
        self.noted, self.saved = len(self.own), time.monotonic()

    def __exit__(self, kind: Any, error: Any, at: Any) -> None:
        if kind is not None and len(self.own) > self.noted:
            self._save()
