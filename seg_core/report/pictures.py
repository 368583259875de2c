"""Pictures of sections: raw data, labels, prediction, segmentation. Only sections are read."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seg_core.geometry import AXES, Box
from seg_core.report import colours
from seg_core.report.colours import Picture
from seg_core.run import Run
from seg_core.source import Source, open_source
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import VoxelSize, ZarrArray, open_array

LARGEST = 512  # voxels along a side of a section
BYTES = 60_000  # of a picture in the UI, which keeps it in a database
SIDES = (240, 200, 160, 120, 90, 60)  # pixels along a panel there: the first that fits
SOURCES = 6  # rows of a picture there
TITLE = 18  # pixels

Place = Sequence[int] | None


@dataclass(frozen=True)
class Panel:
    """One picture of a section.

    Attributes:
        title: what it shows.
        image: uint8, (rows, columns) or (rows, columns, 3), one pixel a voxel.
        width: of the section, nm.
        height: of the section, nm.
    """

    title: str
    image: Picture
    width: float
    height: float


@dataclass(frozen=True)
class Section:
    """A plane of voxels.

    Attributes:
        box: one voxel thick along `axis`.
        axis: across which it lies, 0 (z) to 2 (x).
        voxel_size: nm along z, y, x.
    """

    box: Box
    axis: int
    voxel_size: VoxelSize

    @property
    def name(self) -> str:
        """Where it lies: `z = 48`."""
        return f"{AXES[self.axis]} = {self.box.begin[self.axis]}"

    def of(self, array: ZarrArray) -> NDArray[Any]:
        """Its voxels of an array, ([c,] rows, columns)."""
        return self.flat(array.read(self.box))

    def flat(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """([c,] z, y, x) voxels of its box as ([c,] rows, columns)."""
        return voxels.take(0, axis=self.axis - 3)

    def panel(self, title: str, image: Picture) -> Panel:
        """A picture of it."""
        sides = [n * s for n, s in zip(self.box.shape, self.voxel_size, strict=True)]
        height, width = (side for axis, side in enumerate(sides) if axis != self.axis)
        return Panel(title, image, width, height)


def section_through(
    box: Box,
    voxel_size: VoxelSize,
    axis: int = 0,
    *,
    at: Sequence[int] | None = None,
    largest: int = LARGEST,
) -> Section:
    """The section of a box through a voxel (its middle unless given), that voxel in its middle.

    Near an edge of the box the section is moved inside, so that all have the same size.
    """
    middle = [(b + e) // 2 for b, e in zip(box.begin, box.end, strict=True)]
    begin, shape = [], []
    for a, voxel in enumerate(middle if at is None else at):
        side = 1 if a == axis else min(largest, box.shape[a])
        begin.append(min(max(voxel - side // 2, box.begin[a]), box.end[a] - side))
        shape.append(side)
    return Section(Box.of_shape(shape, begin), axis, voxel_size)


def panels_of(
    run: Run, volume: Volume, section: Section, labels: ZarrArray | None = None
) -> list[Panel]:
    """Raw, labels (those of the volume unless given), prediction and segmentation of a section."""
    from seg_core.segment import output_of  # late: it knows every step, and with them torch

    output, task = output_of(run, volume), run.frozen.task
    prediction, segmentation = (
        open_array(output.store.path(output.path(f"{name}.zarr")))
        for name in ("prediction", "segmentation")
    )
    values = section.of(prediction).astype(np.float32) * prediction.attributes.get("scale", 1.0)
    panels = [("raw", raw_picture(volume, section))]
    if (truth := labels or volume.labels) is not None:
        panels.append(("labels", colours.of_labels(task, section.of(truth))))
    panels.append(("prediction", colours.of_prediction(task, values)))
    panels.append(("segmentation", colours.of_segments(task, section.of(segmentation))))
    return [section.panel(title, image) for title, image in panels]


def raw_picture(volume: Volume, section: Section) -> Picture:
    """The (first channel of the) image."""
    values = section.of(volume.raw)
    return colours.of_values(values if values.ndim == 2 else values[0])


def draw_section(run: Run, volume: Volume) -> bytes:
    """PNG of the middle section across z: raw, labels if any, prediction, segmentation.

    Raises:
        SegError: prediction or segmentation are not there.
    """
    section = section_through(volume.roi, volume.voxel_size)
    return _montage([panels_of(run, volume, section)])


def draw_sources(run: Run) -> bytes:
    """PNG of the middle section of what a run trains on and validates on: raw and labels.

    Raises:
        SegError: a source is unusable.
    """
    split, rows = run.config.datasplit, []
    for part, configs in (("train", split.train), ("validate", split.validate_)):
        for config in configs:
            rows.append(_source_panels(run, part, open_source(run, config)))
    return _montage(rows[:SOURCES])


def _source_panels(run: Run, part: str, source: Source) -> list[Panel]:
    section = section_through(source.roi, source.volume.voxel_size)
    labels = colours.of_labels(run.config.task, section.of(source.labels))
    return [
        section.panel(f"{part}: {source.volume.name}, {section.name}",
                      raw_picture(source.volume, section)),
        section.panel("labels", labels),
    ]  # fmt: skip


def _montage(rows: list[list[Panel]]) -> bytes:
    """PNG of rows of panels with their titles, as large as `BYTES` allow."""
    for side in SIDES:
        image = _compose(rows, side).quantize(96, Image.Quantize.FASTOCTREE)
        buffer = io.BytesIO()
        image.save(buffer, "png", optimize=True)
        if buffer.tell() <= BYTES:
            break
    return buffer.getvalue()


def _compose(rows: list[list[Panel]], side: int) -> Image.Image:
    gap, font = 6, ImageFont.load_default(12)
    heights = [max(_size(panel, side)[1] for panel in row) + TITLE + gap for row in rows]
    width = max(len(row) for row in rows) * (side + gap) - gap
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            left = number * (side + gap)
            draw.text((left, top), panel.title, "#222222", font)
            picture = Image.fromarray(panel.image).convert("RGB")
            smooth = Image.Resampling.BOX if panel.image.ndim == 2 else Image.Resampling.NEAREST
            sheet.paste(picture.resize(_size(panel, side), smooth), (left, top + TITLE))
        top += height
    return sheet


def _size(panel: Panel, side: int) -> tuple[int, int]:
    """Pixels of a panel: its longer side is `side`, its shape that of the world."""
    longest = max(panel.width, panel.height)
    return max(1, round(panel.width / longest * side)), max(1, round(panel.height / longest * side))


def png(image: Picture) -> bytes:
    """A picture as PNG, one pixel a voxel."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return buffer.getvalue()
