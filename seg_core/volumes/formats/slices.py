"""Folders of images, one file a slice: TIFF or PNG; also a single PNG."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from seg_core.errors import SegError
from seg_core.volumes.formats.source import Source

_KINDS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG"}
_PNG_MODES = {
    "1": ((), "u1"),
    "L": ((), "u1"),
    "I;16": ((), "u2"),
    "I": ((), "i4"),
    "LA": ((2,), "u1"),
    "RGB": ((3,), "u1"),
    "RGBA": ((4,), "u1"),
}

Layout = tuple[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class _Stack:
    files: list[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        return np.stack([_pixels(file)[index[1:]] for file in self.files[index[0]]])


def open_slices(path: str) -> Source | None:
    """Open a folder of slices, in the natural order of their names; None where there are none.

    Raises:
        SegError: the slices differ in shape or dtype, or there are both TIFFs and PNGs.
    """
    files = _images(Path(path))
    if not files:
        return None
    if len({_KINDS[file.suffix.lower()] for file in files}) > 1:
        raise SegError(f"{path}: holds TIFFs and PNGs; expected slices of one format")
    (shape, dtype), *others = map(_layout, files)
    for file, other in zip(files[1:], others, strict=True):
        if other != (shape, dtype):
            raise SegError(
                f"{file}: has shape {other[0]} and dtype {other[1]}, but the first slice, "
                f"{files[0].name}, has {shape} and {dtype}; all must be equal"
            )
    return Source(path, _Stack(files, (len(files), *shape), dtype), "zyxc"[: len(shape) + 1])


def _images(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".png" else []
    if not path.is_dir():
        return []
    names = (f for f in path.iterdir() if f.suffix.lower() in _KINDS and f.name[0] != ".")
    return sorted(names, key=lambda file: _natural(file.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts slice 9 before slice 10."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name) if p]


def _layout(file: Path) -> Layout:
    if file.suffix.lower() != ".png":
        with tifffile.TiffFile(file) as tiff:
            image = tiff.series[0]
            if image.axes not in ("YX", "YXS"):
                raise SegError(f"{file}: is a stack of shape {image.shape}; expected one slice")
            return image.shape, np.dtype(image.dtype)
    with Image.open(file) as png:
        if png.mode not in _PNG_MODES:
            raise SegError(f"{file}: is a PNG of mode {png.mode}; expected grey or RGB")
        channels, dtype = _PNG_MODES[png.mode]
        return (png.height, png.width, *channels), np.dtype(dtype)


def _pixels(file: Path) -> NDArray[Any]:
    if file.suffix.lower() != ".png":
        return np.asarray(tifffile.imread(file))
    with Image.open(file) as image:
        return np.asarray(image)
