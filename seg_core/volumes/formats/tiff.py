"""TIFF and BigTIFF: stacks of pages, as plain, ImageJ or OME files."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile
import zarr

from seg_core.errors import SegError
from seg_core.volumes.formats.source import Source, nanometres
from seg_core.volumes.ome_zarr import VoxelSize

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PAGE_BYTES = 64 << 20


def open_tiff(path: str) -> Source | None:
    """Open a TIFF file; None where it is no such file.

    Raises:
        SegError: its pages differ in shape, or are no volume.
    """
    if not is_tiff(path):
        return None
    file = _open(path)
    series = file.series[0]
    # whole pages need the fewest requests; of huge ones, the strips or tiles that are needed
    whole = series.keyframe.nbytes <= _PAGE_BYTES
    store = series.aszarr(level=0, chunkmode="page" if whole else None)
    array: Any = zarr.open_array(store, mode="r")
    axes = _axes(series.axes, series.shape, bool(file.is_imagej))
    return Source(path, array, axes, _imagej_size(file) or _ome_size(file))


def is_tiff(path: str) -> bool:
    """Whether a file begins as every TIFF does."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(4) in _MAGIC


class _Damage(logging.Handler):
    """tifffile reads what is left of a broken file, and says so only in its log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "TiffTag" not in message and "Strip" not in message:  # these leave all voxels readable
            self.found.append(message)


@contextmanager
def _undamaged(path: str) -> Iterator[None]:
    damage = _Damage()
    logger = logging.getLogger("tifffile")
    logger.addHandler(damage)
    try:
        yield
    finally:
        logger.removeHandler(damage)
    if damage.found:
        raise SegError(f"{path}: is a broken TIFF: {damage.found[0]}")


def _open(path: str) -> tifffile.TiffFile:
    with _undamaged(path):
        file = tifffile.TiffFile(path)
        split = len(file.series) > 1
    if split:
        # pages that tifffile was given one by one are a series each, unless read as plain pages
        file.close()
        file = tifffile.TiffFile(path, is_shaped=False)
    if len(file.series) != 1:
        shapes = ", ".join(str(series.shape) for series in file.series[:5]) or "none"
        raise SegError(f"{path}: expected one stack of equal pages, found images {shapes}")
    return file


def _axes(names: str, shape: tuple[int, ...], imagej: bool) -> str:
    """tifffile's axes as those of a Source: the one that is neither y, x nor channels is z."""
    lengths = dict(zip(names, shape, strict=True))
    depth = [a for a, length in lengths.items() if a not in "CSYX" and length > 1]
    if not depth and imagej and lengths.get("C", 1) > 4:
        depth = ["C"]  # ImageJ calls slices so in a stack that nobody told it the order of
    letters = dict(zip("CSYX", "ccyx", strict=True))
    if lengths.get("C") == 1 and "S" in lengths:
        letters["C"] = "?"
    if len(depth) == 1:
        letters[depth[0]] = "z"
    return "".join(letters.get(name, str(i)) for i, name in enumerate(names))


def _imagej_size(file: tifffile.TiffFile) -> VoxelSize | None:
    info = file.imagej_metadata or {}
    tags = file.pages.first.tags
    if "spacing" not in info or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (nx, dx), (ny, dy) = tags["XResolution"].value, tags["YResolution"].value  # pixels per unit
    unit = str(info.get("unit", "")).replace("\\u00B5", "µ")
    return nanometres((info["spacing"], dy / ny, dx / nx), unit) if nx and ny else None


def _ome_size(file: tifffile.TiffFile) -> VoxelSize | None:
    if not file.ome_metadata:
        return None
    for element in ElementTree.fromstring(file.ome_metadata).findall(".//{*}Pixels"):
        known = [element.get(f"PhysicalSize{a}") for a in "ZYX"]
        units = [element.get(f"PhysicalSize{a}Unit", "µm") for a in "ZYX"]
        sizes = [nanometres([float(s or "nan")] * 3, u) for s, u in zip(known, units, strict=True)]
        if sizes[0] and sizes[1] and sizes[2]:
            return sizes[0][0], sizes[1][0], sizes[2][0]
    return None
