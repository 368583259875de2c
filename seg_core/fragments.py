"""5. Fragments: labels inside a block, the edges between them, and slabs at its faces.

A block reads nothing but its own prediction; what lies across its faces is for the look-up table.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import cc3d
import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.engine import Options, Outcome, run_blocks
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Inputs, Records
from seg_core.blockwise.stage import Stage
from seg_core.errors import SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box, Triple, triple
from seg_core.kernels.region_graph import edges_inside
from seg_core.kernels.relabel import compact
from seg_core.merging.border import cut_border, remove_block, write_block
from seg_core.tasks.task import Task
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array

PIECE = 64  # voxels along an axis that are labelled at once: the kernels are super-linear
GB_PER_VOXEL = 30e-9  # labels twice, prediction, and what the region graph needs


@dataclass(frozen=True)
class Fragments(Stage):
    """Labels 1 to n of every block, uint32 (z, y, x); for classes, their numbers."""

    name: ClassVar[str] = "fragments"
    version: ClassVar[int] = 1
    labels: ClassVar[bool] = True

    task: Task
    memory: float

    @cached_property
    def array(self) -> ZarrArray:
        """What is written."""
        return self.output.array("fragments", "uint32")

    @cached_property
    def _scratches(self) -> dict[str, ZarrArray]:
        return {}

    def _scratch(self, key: str) -> ZarrArray:
        """Labels of a block's pieces before they have one numbering."""
        if key not in self._scratches:
            array = self.output.array(f"scratch/{key}", "uint64")
            array = replace(array, box=self.output.grid.box(key))
            self._scratches[key] = create(array, overwrite=True, finish=False)
        return self._scratches[key]

    @cached_property
    def _prediction(self) -> ZarrArray:
        return open_array(self.output.store.path(self.output.path("prediction.zarr")))

    def made_from(self, keys: Collection[str]) -> dict[str, Inputs | str]:
        """The block's prediction, its mask and voxel size, and how it is post-processed."""
        folder = self.output.path("blocks/prediction")
        predictions = Records(self.output.store, folder).read_some(keys)
        excluded = {"sub_block", "agglomeration"}
        parameters = fingerprint(
            self.task.postprocess.model_dump(mode="json", exclude=excluded),
            self.task.neighbours,
            self.piece,
            self.version,
        )
        masks = self._masks(keys)
        found: dict[str, Inputs | str] = {}
        for key in keys:
            record = predictions.get(key)
            if record is None or record.state != "done":
                found[key] = "its prediction is " + (record.state if record else "missing")
            else:
                found[key] = {
                    "block": self.output.place(key),
                    "prediction": record.content,
                    "parameters": parameters,
                    "voxel size": list(self.output.volume.voxel_size),
                    **masks.get(key, {}),
                }
        return found

    def _masks(self, keys: Collection[str]) -> dict[str, Inputs]:
        mask, grid = self.output.volume.mask, self.output.grid
        if mask is None:
            return {}
        found = mask.describe({key: grid.box(key) for key in keys})
        return {key: {"mask": digest} for key, digest in found.items() if digest}

    @property
    def piece(self) -> Triple:
        """Voxels that are labelled at once."""
        volume = self.output.volume.config
        if (asked := self.task.postprocess.sub_block) is not None:
            return triple(asked)
        return triple(
            [
                min(b, max(c, PIECE // c * c))
                for b, c in zip(volume.block, volume.chunk, strict=True)
            ]
        )

    def prepare(self) -> None:
        """Check pieces and memory; make the array.

        Raises:
            SegError: something does not fit.
        """
        volume = self.output.volume.config
        if any(p % c for p, c in zip(self.piece, volume.chunk, strict=True)):
            raise SegError(
                f"task.postprocess.sub_block {list(self.piece)} is no multiple of the "
                f"chunk {list(volume.chunk)} of volume {self.output.volume.name}"
            )
        need = float(np.prod(volume.block)) * GB_PER_VOXEL
        if need > self.memory:
            raise SegError(
                f"fragments of a block of {list(volume.block)} voxels take about {need:.1f} GB, "
                f"but compute.memory is {self.memory:g} GB; give volume {self.output.volume.name} "
                "smaller blocks, or the run more memory"
            )
        create(self.array, labels=self.labels, overwrite=True)

    def sub_blocks(self, box: Box) -> list[Box]:
        """Pieces small enough for kernels that are super-linear."""
        return list(box.tiles(self.piece))

    def _read_prediction(self, box: Box) -> NDArray[np.uint8]:
        values = self._prediction.read(box)
        return values if values.dtype == np.uint8 else np.rint(values * 255).astype(np.uint8)

    def make(self, key: str, box: Box) -> str:
        """Label one piece, with ids of its own."""
        labels = self._label(box)
        self._scratch(key).write(box, labels)
        return content(labels)

    def _label(self, box: Box) -> NDArray[np.uint64]:
        mask = self.output.volume.mask
        inside = None if mask is None else mask.read(box)
        if inside is not None and not inside.any():
            return np.zeros(box.shape, np.uint64)
        labels = self.task.postprocess.label(
            self._read_prediction(box), self.task.neighbours, self.output.volume.voxel_size
        )
        if inside is None or inside.all():
            return labels
        labels[~inside] = 0
        if not self.task.postprocess.joins:
            return labels
        # a fragment that grew through what is outside is not one inside
        return np.asarray(cc3d.connected_components(labels, connectivity=6), np.uint64)

    def empty(self, key: str) -> None:
        """Its edges and slabs go too."""
        super().empty(key)
        remove_block(self.output, key)

    def finish(self, key: str, digests: list[str]) -> tuple[str, dict[str, float]]:  # noqa: ARG002
        """Number the block's fragments 1 to n; write them, their edges and the slabs."""
        box = self.output.grid.box(key)
        if not self.task.postprocess.joins:
            classes = self._scratch(key).read().astype(np.uint32)
            self.array.write(box, classes)
            return content(classes), {"fragments": len(self.task.channels) - 1}
        labels, count = self._number(key, box)
        prediction, offsets = self._read_prediction(box), self.task.neighbours
        edges = edges_inside(labels, prediction, offsets)
        border = cut_border(labels, prediction, offsets, count)
        self.array.write(box, labels)
        digest = write_block(self.output, key, edges, border)
        figures: dict[str, float] = {"fragments": count, "edges": len(edges)}
        # labels first: what is named after them changes only when they do
        return content(labels) + digest, figures

    def tidy(self, key: str) -> None:
        """Remove the pieces' own labels."""
        self.output.store.remove(self.output.path(f"scratch/{key}.zarr"))

    def _number(self, key: str, box: Box) -> tuple[NDArray[np.uint32], int]:
        """One numbering of all pieces' labels."""
        scratch, pieces = self._scratch(key), self.sub_blocks(box)
        whole = np.zeros(box.shape, np.uint64)
        last = 0
        for piece in pieces:
            labels = scratch.read(piece)
            labels[labels > 0] += np.uint64(last)
            whole[piece.relative_to(box.begin).slices] = labels
            last = max(last, int(labels.max()))
        numbered, count = compact(whole)
        return numbered.astype(np.uint32), count


def make_fragments(
    task: Task, output: Output, memory: float, keys: list[str] | None, options: Options
) -> Outcome:
    """Bring the fragments of blocks up to date.

    Raises:
        BlocksFailed: some could not be made; those without a prediction among them.
        SegError: none can.
    """
    return run_blocks(Fragments(output, task, memory), keys, options)
