"""What every format gives: an array on disk that is read piece by piece, always as [c,] z, y, x."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.geometry import AXES, Box, Triple, triple
from seg_core.volumes.ome_zarr import NANOMETRES, VoxelSize


class Indexable(Protocol):
    """An array that reads only what is indexed: by a slice or 0 for every axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""

    @property
    def dtype(self) -> Any:
        """Anything that numpy takes for a dtype."""

    def __getitem__(self, index: Any) -> Any: ...


@dataclass(frozen=True)
class Source:
    """An image or labels in a file of any format.

    Attributes:
        name: what the user called it.
        array: the voxels, in the file's own order of axes.
        axes: a letter for each axis of `array`: z, y, x, c (channels), or any other for an axis
            of length 1 that is left out. y and x are there; without z, the image is one slice.
        voxel_size: nanometres along z, y, x; None where the file says nothing.

    Raises:
        SegError: the axes or the dtype are none of a volume, or it holds no voxel.
    """

    name: str
    array: Indexable
    axes: str
    voxel_size: VoxelSize | None = None

    def __post_init__(self) -> None:
        lengths = dict(zip(self.axes, self.array.shape, strict=True))
        extra = [a for a, length in lengths.items() if a not in f"c{AXES}" and length != 1]
        if extra or not {"y", "x"} <= lengths.keys() or len(lengths) != len(self.axes):
            raise SegError(
                f"{self.name}: has shape {tuple(self.array.shape)} with axes "
                f"{', '.join(self.axes)}; expected (y, x), (z, y, x) or either with channels"
            )
        if self.dtype.kind not in "uif":
            raise SegError(f"{self.name}: holds {self.dtype}; expected integers or floats")
        if not all(self.array.shape):
            raise SegError(f"{self.name}: has shape {tuple(self.array.shape)} and so no voxel")

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def shape(self) -> Triple:
        """Voxels along z, y, x."""
        return triple([self._length(axis) for axis in AXES])

    @property
    def channels(self) -> int | None:
        """How many channels, None for one."""
        count = self._length("c")
        return count if count > 1 else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `read` returns: the file's, in this machine's byte order; uint8 for booleans."""
        dtype = np.dtype(self.array.dtype)
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of a box, (z, y, x) or (c, z, y, x).

        Raises:
            SegError: the box reaches outside, or the file cannot be read there.
        """
        if not Box.of_shape(self.shape).contains(box):
            raise SegError(f"{self.name}: {box} reaches outside; its shape is {self.shape}")
        wanted: dict[str, Any] = dict(zip(AXES, box.slices, strict=True))
        if self.channels is not None:
            wanted["c"] = slice(None)
        with reading(self.name):
            data = np.asarray(self.array[tuple(wanted.get(axis, 0) for axis in self.axes)])
        kept = [axis for axis in self.axes if axis in wanted]
        data = data.transpose([kept.index(a) for a in f"c{AXES}" if a in kept])
        if "z" not in kept:
            data = np.expand_dims(data, -3)
        return np.ascontiguousarray(data, self.dtype)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a library raises about a file's content into one sentence.

    Raises:
        SegError: instead of any exception of the body.
    """
    try:
        yield
    except SegError:
        raise
    except Exception as error:  # every library has its own kinds
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise SegError(f"{name}: cannot be read: {reason}") from error


def nanometres(size: Sequence[float] | None, unit: str | None) -> VoxelSize | None:
    """A voxel size (z, y, x) in nanometres, or None if `unit` is no length or a number is none."""
    if size is None or unit not in NANOMETRES or not all(math.isfinite(s) for s in size):
        return None
    # nine digits: 0.0046 um are 4.6 nm and not 4.6000000000000005
    z, y, x = (float(f"{s * NANOMETRES[unit]:.9g}") for s in size)
    return z, y, x


def guess_axes(shape: Sequence[int]) -> str:
    """Axes of an array that does not name them, a letter for each (`?` where there are too many).

    Four axes are c, z, y, x, unless just the last is as short as that of colours.
    """
    if len(shape) == 4 and shape[-1] in (3, 4) and shape[0] not in (3, 4):
        return "zyxc"
    return {2: "yx", 3: "zyx", 4: "czyx"}.get(len(shape), "?" * len(shape))
