"""What the report says of one labelled part of a volume, with the pictures of its mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.report.colours import over
from seg_core.report.compared import Compared, Spot, compare
from seg_core.report.labelled import seen_in_training, validation_sources
from seg_core.report.mistakes import middle_of
from seg_core.report.pictures import Panel, Section, raw_picture, section_through
from seg_core.run import Run
from seg_core.source import Source
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray

CROP = 48  # voxels along a side of the picture of a place


@dataclass(frozen=True)
class Part:
    """A labelled part.

    Attributes:
        source: where it lies.
        figures: for `report.json`: scores, wrong voxels, places.
        legend: what the colours of its pictures mean.
        overlays: mistakes over raw data, rows of sections across z, y and x.
        crops: a picture of each place.
    """

    source: Source
    figures: dict[str, Any]
    legend: tuple[str, str, str]
    overlays: list[list[Panel]]
    crops: list[Panel]


def examine(run: Run, volume: Volume, source: Source, segmentation: ZarrArray) -> Part:
    """Compare a part with its labels; both are read whole."""
    found, size = compare(run.frozen.task, source, segmentation), volume.voxel_size
    spots = [_spot(found, spot) for spot in found.spots()]
    figures = {
        "name": source.name,
        "validated": source.name in [s.name for s in validation_sources(run, volume)],
        "trained_on": seen_in_training(run, source),
        "scores": found.scores(),
        "voxels": found.voxels(),
        "spots": [told for told, _ in spots],
    }
    by_axis = [list(_overlays(found, section_through(source.roi, size, a))) for a in range(3)]
    overlays = [list(row) for row in zip(*by_axis, strict=True)]
    return Part(source, figures, found.legend, overlays, [crop for _, crop in spots])


def _spot(found: Compared, spot: Spot) -> tuple[dict[str, Any], Panel]:
    """What is told of a mistake, with its place (z, y, x) in the volume, and its picture."""
    roi = found.source.roi
    place = [b + p for b, p in zip(roi.begin, middle_of(spot.mask), strict=True)]
    section = section_through(roi, found.source.volume.voxel_size, at=place, largest=CROP)
    inside = spot.mask[section.box.relative_to(roi.begin).slices]
    return {**spot.figures, "place": place}, _panel(found, section, inside * np.uint8(spot.kind))


def _overlays(found: Compared, section: Section) -> Iterator[Panel]:
    for title, marks in found.marks(section.box).items():
        yield _panel(found, section, marks, f"{title}, " if title else "")


def _panel(found: Compared, section: Section, marks: NDArray[np.uint8], title: str = "") -> Panel:
    raw = raw_picture(found.source.volume, section)
    return section.panel(f"{title}{section.name}", over(raw, section.flat(marks)))
