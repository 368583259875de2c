"""Blocks, or the pieces of a few blocks, spread over worker processes by daisy."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import daisy.v2 as daisy
from daisy import logging as daisy_logging

from seg_core.blockwise.make_block import failed, lease_path, make_block
from seg_core.blockwise.records import Record
from seg_core.blockwise.stage import Stage, Work
from seg_core.errors import Busy


@dataclass(frozen=True)
class _Task:
    """What a daisy worker runs: item number i of the list, each item being one block or piece."""

    stage: Stage
    work: list[Work]
    pieces: list[tuple[int, int]] | None = None

    def __call__(self, block: Any) -> None:
        number = block.write_roi.begin[0]
        if self.pieces is None:
            with suppress(Busy):  # the main process finds its lease, and says so
                make_block(self.stage, self.work[number])
        else:
            item, piece = self.pieces[number]
            _make_piece(self.stage, self.work[item], piece)


def _make_piece(stage: Stage, work: Work, number: int) -> None:
    box = stage.sub_blocks(stage.output.grid.box(work.key))[number]
    try:
        digest = stage.make(work.key, box)
    except Exception:
        return  # the block itself comes upon it again, and records why
    stage.records.write_parts(work.key, work.inputs, uuid4().hex, {number: digest}, work.force)


def distribute(
    stage: Stage, work: list[Work], workers: int, ended: Callable[[str], None]
) -> dict[str, str]:
    """Make blocks in `workers` processes; `ended` is called here with each key as it ends.

    Returns:
        Why the others did not end here: somebody else is making them.
    """
    for item in work:
        _announce(stage, item)
    if len(work) < workers:
        work = [_with_contents(stage, item) for item in work]
        pieces = list(_open_pieces(stage, work))
        if len(pieces) > 1:
            _run_daisy(_Task(stage, work, pieces), len(pieces), workers, None)
    seen: set[str] = set()

    def look() -> None:
        records = stage.records.read_all()
        for item in work:
            record = records.get(item.key)
            if item.key not in seen and record and record.state in ("done", "failed"):
                seen.add(item.key)
                ended(item.key)

    error = _run_daisy(_Task(stage, work), len(work), workers, look)
    look()
    busy: dict[str, str] = {}
    for item in work:
        if item.key in seen:
            continue
        if stage.output.store.exists(lease_path(stage, item.key)):
            busy[item.key] = f"another process is making {stage.name} of it; wait for its end"
            continue
        reason = f"its worker process died: {error or 'no reason given (out of memory?)'}"
        stage.records.write(item.key, failed(stage.records.read(item.key), reason))
        ended(item.key)
    return busy


def _announce(stage: Stage, item: Work) -> None:
    """What is written over is no longer what its record says."""
    before = stage.records.read(item.key)
    now = Record("missing", item.inputs, forced=item.force)
    if before.state in ("missing", "failed") and before.inputs == item.inputs:
        now = replace(before, state="missing", error="", forced=item.force)
    stage.records.write(item.key, now)


def _with_contents(stage: Stage, item: Work) -> Work:
    """What a block's inputs hold, read before the first of its pieces is made."""
    with suppress(Exception):  # the block itself comes upon it again, and records why
        return replace(item, contents=stage.contents(item.key))
    return item


def _open_pieces(stage: Stage, work: list[Work]) -> Iterator[tuple[int, int]]:
    for item, block in enumerate(work):
        done = stage.records.read_parts(block.key, block.inputs, block.force)
        pieces = stage.sub_blocks(stage.output.grid.box(block.key))
        yield from ((item, n) for n in range(len(pieces)) if n not in done)


class _Observer:
    """Lets the main process look at the records whenever daisy reports progress."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def on_start(self, *_: Any) -> None:
        """Nothing to see yet."""

    def on_progress(self, *_: Any) -> None:
        self.look()

    def on_finish(self, *_: Any) -> None:
        self.look()


def _run_daisy(
    task: _Task, count: int, workers: int, look: Callable[[], None] | None
) -> str | None:
    """Spread items over worker processes; returns the last worker's error, if one died."""
    daisy_logging.set_log_basedir(None)
    one = daisy.Roi((0,), (1,))
    blocks = daisy.Task(
        task.stage.name,
        daisy.Roi((0,), (count,)),
        one,
        one,
        task,
        read_write_conflict=False,
        max_workers=min(workers, count),
        max_retries=0,
        timeout=None,
    )
    states = daisy.run_blockwise(
        blocks,
        progress=_Observer(look) if look else False,
        block_tracking=False,
        return_states=True,
        host="127.0.0.1",
        summary=False,
    )
    return states[task.stage.name].last_worker_error
