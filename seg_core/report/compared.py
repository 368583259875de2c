"""A segmentation beside labels: scores, which voxels are wrong, and where the worst places are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.contingency import Contingency
from seg_core.geometry import Box
from seg_core.report.mistakes import (
    MERGE,
    NAMES,
    SPLIT,
    Matches,
    middle_of,
    totals,
    worst_pairs,
)
from seg_core.source import Source
from seg_core.tasks.task import Task
from seg_core.volumes.ome_zarr import ZarrArray

SPOTS = 12  # of the largest mistakes, each with its place

Marks = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Spot:
    """A mistake: what is told of it, its kind, and its voxels, bool (z, y, x) of the part."""

    figures: dict[str, Any]
    kind: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Compared(ABC):
    """One labelled part in memory; arrays are (z, y, x) of its ROI."""

    legend: ClassVar[tuple[str, str, str]]
    """What the kinds 1, 2 and 3 of a picture mean."""

    task: Task
    source: Source
    segmentation: NDArray[np.uint64]
    labels: NDArray[Any]

    @cached_property
    def ids(self) -> NDArray[np.uint32]:
        """Number of the object or class of every voxel."""
        return self._prepared[0].view(np.uint32)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Where the labels say something."""
        return self._prepared[1]

    @cached_property
    def _prepared(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        return self.task.prepare(self.labels)

    @cached_property
    def table(self) -> Contingency:
        """Overlaps of segments (or classes found) with objects (or true classes)."""
        table = Contingency()
        table.add(self.segmentation, self.ids, self.known)
        return table

    def scores(self) -> dict[str, float]:
        """Every metric of the task."""
        return self.task.scores(self.segmentation, self.labels, self.source.volume.voxel_size)

    @abstractmethod
    def voxels(self) -> list[dict[str, Any]]:
        """How many voxels are wrong in which way."""

    def marks(self, box: Box) -> Marks:
        """Kind of every voxel of a box, by the title of the picture."""
        inside = box.relative_to(self.source.roi.begin).slices
        found = self.kinds(self.segmentation[inside], self.ids[inside])
        return {title: kinds * self.known[inside] for title, kinds in found.items()}

    @abstractmethod
    def kinds(self, segments: NDArray[np.uint64], ids: NDArray[np.uint32]) -> Marks:
        """Kinds of voxels, of any shape."""

    @abstractmethod
    def spots(self) -> Iterator[Spot]:
        """The largest mistakes."""


class Objects(Compared):
    """Segments beside objects."""

    legend = ("split", "merge", "split and merge")

    @cached_property
    def _matches(self) -> Matches:
        return Matches.of(self.table)

    @cached_property
    def _names(self) -> dict[int, int]:
        """Label value of every object, or its number where one value means several."""
        numbers, first = np.unique(self.ids, return_index=True)
        values = np.where(numbers > 0, self.labels.reshape(-1)[first], 0)
        unique = len(np.unique(values)) == len(values)
        names = (values if unique else numbers).tolist()
        return {0: 0} | dict(zip(numbers.tolist(), names, strict=True))

    def voxels(self) -> list[dict[str, Any]]:
        """Of all objects together."""
        return [totals(self.table, self._matches)]

    def kinds(self, segments: NDArray[np.uint64], ids: NDArray[np.uint32]) -> Marks:
        """Split, merge, or both."""
        return {"": self._matches.kinds(segments, ids)}

    def spots(self) -> Iterator[Spot]:
        """Objects in segments where they should not be."""
        for pair in worst_pairs(self.table, self._matches, SPOTS):
            own = self._matches.segment_of(np.array([pair.object], np.uint64))
            main = self._matches.object_of(np.array([pair.segment], np.uint64))
            figures = {
                "kind": NAMES[pair.kind],
                "voxels": pair.voxels,
                "share": pair.share,
                "object": self._names[pair.object],
                "best_segment": int(own[0]),
                "segment": pair.segment,
                "best_object": self._names[int(main[0])],
            }
            mask = (self.ids == pair.object) & (self.segmentation == pair.segment) & self.known
            yield Spot(figures, pair.kind, mask)


class Classes(Compared):
    """Classes found beside true ones; pictures and figures are by class."""

    legend = ("missed (false negative)", "extra (false positive)", "another class")

    def voxels(self) -> list[dict[str, Any]]:
        """Of each class: in the labels, missed, and extra."""
        found, truth, voxels = self.table.pairs()
        return [
            {
                "class": name,
                "voxels": int(voxels[truth == c].sum()),
                "missed": int(voxels[(truth == c) & (found != c)].sum()),
                "extra": int(voxels[(truth != c) & (found == c)].sum()),
            }
            for c, name in enumerate(self.task.channels)
            if c > 0
        ]

    def kinds(self, segments: NDArray[np.uint64], ids: NDArray[np.uint32]) -> Marks:
        """Of each class: SPLIT is what was missed, MERGE what is extra."""
        return {
            name: np.asarray(SPLIT * ((ids == c) & (segments != c)), np.uint8)
            + np.asarray(MERGE * ((ids != c) & (segments == c)), np.uint8)
            for c, name in enumerate(self.task.channels)
            if c > 0
        }

    def spots(self) -> Iterator[Spot]:
        """Connected voxels of one true class that were found to be one other."""
        import cc3d

        names, wrong = self.task.channels, self.known & (self.ids != self.segmentation)
        pairs = np.where(wrong, self.ids * len(names) + self.segmentation + 1, 0)
        parts = cc3d.connected_components(pairs.astype(np.uint32), connectivity=6)
        counts = np.bincount(parts.reshape(-1))
        counts[0] = 0
        for part in np.argsort(-counts, kind="stable")[:SPOTS]:
            if counts[part]:
                yield self._spot(parts == part, int(counts[part]))

    def _spot(self, mask: NDArray[np.bool_], voxels: int) -> Spot:
        names, place = self.task.channels, middle_of(mask)
        truth, found = int(self.ids[place]), int(self.segmentation[place])
        kind = SPLIT * (truth > 0) + MERGE * (found > 0)
        name = ("", "missed", "extra", "another class")[kind]
        return Spot(
            {"kind": name, "voxels": voxels, "truth": names[truth], "found": names[found]},
            kind,
            mask,
        )


def compare(task: Task, source: Source, segmentation: ZarrArray) -> Compared:
    """Read a part of a segmentation and its labels."""
    kind = Objects if task.postprocess.joins else Classes
    return kind(task, source, segmentation.read(source.roi), source.labels.read(source.roi))
