"""7. Segmentation: fragments through the look-up table, block by block."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.engine import Options, Outcome, run_blocks
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Inputs, Record
from seg_core.blockwise.stage import Stage
from seg_core.fingerprint import DIGEST, content, fingerprint
from seg_core.fragments import Fragments
from seg_core.geometry import Box, triple
from seg_core.kernels.relabel import relabel
from seg_core.lut import Table, read_slice, read_table
from seg_core.tasks.task import Task
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array

PIECE = 256  # voxels along an axis that are read and written at once


@dataclass(frozen=True)
class Segmentation(Stage):
    """Segment ids (or class numbers) of every voxel, uint64 (z, y, x)."""

    name: ClassVar[str] = "segmentation"
    version: ClassVar[int] = 1
    labels: ClassVar[bool] = True

    task: Task

    @cached_property
    def _table(self) -> Table | None:
        return read_table(self.output)

    @cached_property
    def _fragments(self) -> ZarrArray:
        return open_array(self.output.store.path(self.output.path("fragments.zarr")))

    @cached_property
    def array(self) -> ZarrArray:
        """What is written."""
        return self.output.array("segmentation", "uint64")

    def made_from(self, keys: Collection[str]) -> dict[str, Inputs | str]:
        """The block's fragments, and its slice of the table."""
        records = Fragments(self.output, self.task, 0).records.read_some(keys)
        table = self._table
        found: dict[str, Inputs | str] = {}
        for key in keys:
            if table is None:
                found[key] = "there is no look-up table yet"
            elif key not in table.ranges or _content(records, key) != table.ranges[key].content:
                found[key] = "its fragments are not those of the look-up table: make that again"
            else:
                found[key] = {
                    "block": self.output.place(key),
                    "fragments": _content(records, key)[:DIGEST],
                    "look-up table": table.slices[key],
                }
        return found

    @cached_property
    def _in_hand(self) -> dict[str, NDArray[np.uint64]]:
        return {}

    def _slice(self, key: str) -> NDArray[np.uint64]:
        """The block's slice of the table, read once for all its pieces."""
        assert self._table is not None
        if key not in self._in_hand:
            self._in_hand.clear()
            self._in_hand[key] = read_slice(self.output, key, self._table.slices[key])
        return self._in_hand[key]

    def prepare(self) -> None:
        """Make the array."""
        create(self.array, labels=self.labels, overwrite=True)

    def sub_blocks(self, box: Box) -> list[Box]:
        """Large pieces: nothing but reading and writing is to be done."""
        chunk = self.output.volume.config.chunk
        return list(box.tiles(triple([max(c, PIECE // c * c) for c in chunk])))

    def make(self, key: str, box: Box) -> str:
        """Relabel one piece."""
        labels = relabel(self._fragments.read(box), self._slice(key))
        self.array.write(box, labels)
        return content(labels)

    def finish(self, key: str, digests: list[str]) -> tuple[str, dict[str, float]]:
        """Count the segments of the block."""
        segments = np.unique(self._slice(key))
        return fingerprint(digests), {"segments": int(np.count_nonzero(segments))}


def _content(records: dict[str, Record], key: str) -> str:
    return records[key].content if key in records else ""


def make_segmentation(
    task: Task, output: Output, keys: list[str] | None, options: Options
) -> Outcome:
    """Bring segmentation blocks up to date with the table.

    Raises:
        BlocksFailed: some could not be made.
    """
    return run_blocks(Segmentation(output, task), keys, options)
