"""One block: its pieces one after the other, each noted as it ends, and its record last."""

import time
import traceback
from pathlib import Path
from typing import Any
from uuid import uuid4

from seg_core.blockwise.records import Record
from seg_core.blockwise.stage import Stage, Work
from seg_core.errors import SegError
from seg_core.lease import Lease


def make_block(stage: Stage, work: Work) -> None:
    """Make one block and record it, done or failed; only what ends the process gets out."""
    records, key = stage.records, work.key
    what = f"{stage.name} of block {key}"
    with Lease(stage.output.store, lease_path(stage, key), what):
        before = records.read(key)
        if before.state == "done" and before.inputs == work.inputs and not work.force:
            return  # another process made it since we looked
        tries = before.tries + 1 if before.state != "done" else 1
        # from here on voxels are written over, so the block is no longer what its record says
        records.write(key, Record("missing", tries=tries))
        began = time.monotonic()
        try:
            content, figures = _make_pieces(stage, work)
        except Exception as error:
            records.write(key, Record("failed", work.inputs, error=_reason(error), tries=tries))
            return
        seconds = time.monotonic() - began
        voxels = stage.output.grid.box(key).voxels
        figures |= {"seconds": seconds, "voxels": voxels, "voxels_per_second": voxels / seconds}
        records.write(key, Record("done", work.inputs, content, figures, tries=tries))
        records.forget_parts(key)
        stage.tidy(key)


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
        for number, piece in enumerate(pieces):
            if number not in parts.done:
                parts.note(number, stage.make(work.key, piece))
        content, figures = stage.finish(work.key, [parts.done[n] for n in range(len(pieces))])
    return content, {**figures, "sub_blocks": len(pieces), "sub_blocks_resumed": resumed}


class _Parts:
    """Sub-blocks done, noted in the store every so often and whenever the work stops."""

    def __init__(self, stage: Stage, work: Work) -> None:
        self.records, self.key, self.inputs = stage.records, work.key, work.inputs
        self.every = 1.0 if stage.output.store.is_local else 10.0
        self.writer = uuid4().hex
        self.own: dict[int, str] = {}

    def __enter__(self) -> "_Parts":
        self.done = self.records.read_parts(self.key, self.inputs)
        self.noted, self.saved = len(self.own), time.monotonic()
        return self

    def note(self, number: int, digest: str) -> None:
        self.own[number] = self.done[number] = digest
        if time.monotonic() - self.saved >= self.every:
            self._save()

    def _save(self) -> None:
        self.records.write_parts(self.key, self.inputs, self.writer, self.own)
        self.noted, self.saved = len(self.own), time.monotonic()

    def __exit__(self, kind: Any, error: Any, at: Any) -> None:
        if kind is not None and len(self.own) > self.noted:
            self._save()
