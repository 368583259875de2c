"""What a step by block is: the engine and the steps know each other by this only."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import (
    BlockState,
    Inputs,
    Record,
    Records,
    changed,
    judge,
    judge_outside,
)
from seg_core.errors import SegError
from seg_core.geometry import Box
from seg_core.volumes.ome_zarr import ZarrArray


@dataclass(frozen=True)
class Stage(ABC):
    """One step by block; it travels to worker processes, so its fields can be pickled."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the code makes something else from the same inputs."""
    labels: ClassVar[bool] = False
    """Whether ids are written."""

    output: Output

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was opened or looked up here is not sent."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

    def inputs(self, keys: Collection[str] | None = None) -> dict[str, Inputs | str | None]:
        """What blocks (all unless given) are made from: digests by name; or what they wait for.

        None for a block outside the mask, which is not made.
        """
        keys = list(self.output.grid) if keys is None else keys
        outside = self.output.volume.outside(keys)
        return {k: None if k in outside else found for k, found in self.made_from(keys).items()}

    @abstractmethod
    def made_from(self, keys: Collection[str]) -> dict[str, Inputs | str]:
        """The same, as if no block lay outside."""

    @property
    @abstractmethod
    def array(self) -> ZarrArray:
        """What is written."""

    def empty(self, key: str) -> None:
        """Let a block hold nothing but background."""
        lead = () if self.array.channels is None else (self.array.channels,)
        for box in self.sub_blocks(self.output.grid.box(key)):
            self.array.write(box, np.zeros((*lead, *box.shape), self.array.dtype))

    def contents(self, key: str) -> dict[str, str]:  # noqa: ARG002
        """What the inputs that have only a stamp hold now: digests by the same names.

        Raises:
            SegError: they cannot be read.
        """
        return {}

    @property
    def at_once(self) -> int:
        """Pieces of a block that are made at once, by threads."""
        return 1

    @abstractmethod
    def sub_blocks(self, box: Box) -> list[Box]:
        """The pieces of a block, aligned to chunks, in a fixed order."""

    @abstractmethod
    def make(self, key: str, box: Box) -> str:
        """Make and write one piece; returns a digest of what was written."""

    @abstractmethod
    def finish(self, key: str, digests: list[str]) -> tuple[str, dict[str, float]]:
        """Complete a block whose pieces are all written: digest of the content, and figures."""

    def tidy(self, key: str) -> None:  # noqa: B027
        """Remove what only an unfinished block needs; called when its record says `done`."""

    @abstractmethod
    def prepare(self) -> None:
        """Make arrays and check resources before the first block, once, in the main process.

        Raises:
            SegError: the stage cannot run here.
        """

    @property
    def records(self) -> Records:
        """The blocks' records."""
        return Records(self.output.store, self.output.path(f"blocks/{self.name}"))


@dataclass(frozen=True)
class Work:
    """A block to make.

    Attributes:
        key: of the block.
        inputs: what it is made from.
        force: the token under which it is made; one that was forced and interrupted keeps it.
        contents: what its inputs with a stamp hold, if that was read already.
    """

    key: str
    inputs: Inputs
    force: str = ""
    contents: dict[str, str] = field(default_factory=dict)


def block_states(stage: Stage, keys: Sequence[str] | None = None) -> dict[str, BlockState]:
    """What every block (or those asked for) is now, and why."""
    return judge_blocks(stage, stage.inputs(keys), keys)


def judge_blocks(
    stage: Stage, inputs: dict[str, Inputs | str | None], keys: Sequence[str] | None
) -> dict[str, BlockState]:
    """As `block_states`, where the inputs are known: to find them lists chunks of raw data."""
    wanted = list(stage.output.grid) if keys is None else keys
    records = stage.records.read_some(wanted)
    states = {}
    for key in wanted:
        made_from = inputs[key]
        if made_from is None:
            states[key] = judge_outside(records.get(key))
            continue
        waits = made_from if isinstance(made_from, str) else ""
        ready = None if isinstance(made_from, str) else made_from
        states[key] = judge(records.get(key), ready, waits)
        if ready is not None and states[key].state == "stale":
            states[key] = _look_closer(stage, key, records[key], ready)
    return states


def _look_closer(stage: Stage, key: str, record: Record, inputs: Inputs) -> BlockState:
    """A stale block's state, where only stamps differ by what they stand for, which is read now.

    What is found is noted in the record, so that it is read once for each stamp.
    """
    names = set(changed(record, inputs))
    stamps = {name: inputs.get(name) for name in names}
    if not names <= record.contents.keys() or record.differs == stamps:
        return judge(record, inputs)
    try:
        found = stage.contents(key)
    except SegError:
        return judge(record, inputs)  # whoever makes the block comes upon it, and says why
    differ = {n: stamp for n, stamp in stamps.items() if found.get(n) != record.contents[n]}
    same = {n: stamp for n, stamp in stamps.items() if n not in differ}
    known = replace(record, inputs=record.inputs | same, differs=differ)
    # a reader who may not write reads again next time
    with suppress(OSError):
        if stage.records.read(key) == record:
            stage.records.write(key, known)
    return judge(known, inputs)
