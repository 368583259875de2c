"""The record of every block: what it was made from, and what came of it.

A record is written after everything that it speaks of. A block is `done`, `failed`, `missing`,
`stale` (made from something that has changed since) or `skipped`; nothing else exists.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from seg_core.fingerprint import fingerprint
from seg_core.store import Store

State = Literal["done", "failed", "missing", "stale", "skipped"]
Inputs = dict[str, Any]

FEW = 8
"""Blocks for which it is less to ask for each than for all of the volume in one go."""


@dataclass(frozen=True)
class Record:
    """What is stored of a block.

    Attributes:
        state: as it was when the record was written.
        inputs: a digest of every input by its name, so that a change can be named; of large ones
            a stamp only, which also changes when a file is merely touched.
        contents: of those with a stamp, a digest of what they held, by the same names.
        differs: stamps at which they were found to hold something else.
        content: a digest of what was written; what hangs from the block depends on this only.
        figures: seconds, voxels, counts: measurements, which are no part of any fingerprint.
        error: why it failed.
        tries: how often it failed, from these inputs, since it was last done.
        begun: how often in a row it was begun and neither ended nor got further: its process was
            killed. An end that was asked for (Ctrl-C, SIGTERM) is none.
        forced: the token under which it was made again though nothing had changed.
    """

    state: State
    inputs: Inputs = field(default_factory=dict)
    content: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""
    tries: int = 0
    begun: int = 0
    forced: str = ""
    contents: dict[str, str] = field(default_factory=dict)
    differs: Inputs = field(default_factory=dict)


@dataclass(frozen=True)
class BlockState:
    """What a block is now, and why."""

    state: State
    reason: str
    record: Record


class Records:
    """The records of one stage of one run and volume, in a folder of the store."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder

    def read_all(self) -> dict[str, Record]:
        """Every record by block key, read in one go."""
        files = self.store.read_folder(self.folder)
        return {key: Record(**json.loads(content)) for key, content in files.items()}

    def read_some(self, keys: Collection[str]) -> dict[str, Record]:
        """As `read_all`, at least of these blocks: each by itself where they are few."""
        if len(keys) > FEW:
            return self.read_all()
        found = {key: self.store.find_bytes(f"{self.folder}/{key}.json") for key in keys}
        return {k: Record(**json.loads(content)) for k, content in found.items() if content}

    def read(self, key: str) -> Record:
        """A block's record, one that says `missing` where there is none."""
        content = self.store.read_json(f"{self.folder}/{key}.json")
        return Record(**content) if content else Record("missing")

    def write(self, key: str, record: Record) -> None:
        """Write a block's record."""
        self.store.write_json(f"{self.folder}/{key}.json", asdict(record))

    def forget(self, key: str) -> None:
        """Remove a block's record: it holds nothing."""
        self.store.remove(f"{self.folder}/{key}.json")

    def read_parts(self, key: str, inputs: Inputs, forced: str = "") -> dict[int, str]:
        """Digests of the sub-blocks that are written already, by number.

        Those made from other inputs, or before the block was forced, are forgotten for good:
        their voxels will be written over.
        """
        folder, parts, wanted = self._parts(key), {}, fingerprint(inputs, forced)
        found = [json.loads(c) for c in self.store.read_folder(folder).values()]
        if any(part["inputs"] != wanted for part in found):
            self.forget_parts(key)
            return {}
        for part in found:
            parts.update({int(number): digest for number, digest in part["done"].items()})
        return parts

    def write_parts(
        self, key: str, inputs: Inputs, writer: str, done: dict[int, str], forced: str = ""
    ) -> None:
        """Note the sub-blocks that one process has written."""
        content = {"inputs": fingerprint(inputs, forced), "done": done}
        self.store.write_json(f"{self._parts(key)}/{writer}.json", content)

    def forget_parts(self, key: str) -> None:
        """Forget them: the block is complete, or is to be made afresh."""
        self.store.remove(self._parts(key))

    def _parts(self, key: str) -> str:
        return f"{self.folder}/{key}.parts"


def judge(record: Record | None, inputs: Inputs | None, waits_for: str = "") -> BlockState:
    """A block's state from its record and from what it would be made from now.

    Args:
        record: what is stored, if anything is.
        inputs: None while something that it needs is not made.
        waits_for: what that is.
    """
    if record is None or record.state == "missing":
        return BlockState("missing", waits_for, record or Record("missing"))
    if record.state == "failed":
        return BlockState("failed", record.error, record)
    if inputs is None:
        return BlockState("stale", waits_for, record)
    if names := changed(record, inputs):
        return BlockState("stale", f"changed since: {', '.join(names)}", record)
    return BlockState("done", "", record)


def judge_outside(record: Record | None) -> BlockState:
    """The state of a block that lies outside the mask; what it held before must go."""
    if record is None:
        return BlockState("skipped", "outside the mask", Record("skipped"))
    return BlockState("stale", "outside the mask now, and not emptied yet", record)


def changed(record: Record, inputs: Inputs) -> list[str]:
    """Names of the inputs that are not those of a record."""
    return [k for k in {**record.inputs, **inputs} if record.inputs.get(k) != inputs.get(k)]
