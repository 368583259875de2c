"""Bringing an image or labels of any known format into an OME-Zarr array, slab by slab."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_core.errors import SegError
from seg_core.geometry import Box, Triple, parse_box
from seg_core.remote import open_fs, reaching
from seg_core.store import Store
from seg_core.volumes.formats import Source, open_source
from seg_core.volumes.ome_zarr import (
    VoxelSize,
    ZarrArray,
    create,
    describe,
    integer_dtype,
    local_root,
)

Read = Callable[[Box], NDArray[np.generic]]

_SLAB_BYTES = 512 << 20


def import_array(
    source: str,
    dest: str,
    *,
    voxel_size: VoxelSize | None,
    labels: bool = False,
    roi: str | None = None,
    chunk: Triple = (64, 64, 64),
) -> ZarrArray:
    """Copy an array of any format of `formats` into an OME-Zarr group.

    All checks come before the first write. The group cannot be opened before all is copied; the
    same call again goes on, and on a complete copy writes nothing.

    Args:
        source: a path or URI that `open_source` knows.
        dest: path or URI of the group.
        voxel_size: nanometres along z, y, x; None for what the file says.
        labels: whether it holds object ids, which are stored as uint32 or uint64.
        roi: the part to copy, as slices in voxels; it keeps its place in the source's grid.
        chunk: voxels of a chunk along z, y, x.

    Raises:
        SegError: the source, its voxel size, its labels or the ROI are wrong, or `dest` holds
            something else; nothing was written. Or the source broke off while it was read.
    """
    image = open_source(source)
    array = ZarrArray(
        uri=dest.rstrip("/"),
        box=parse_box(roi, Box.of_shape(image.shape)) if roi else Box.of_shape(image.shape),
        channels=image.channels,
        dtype=_labels_dtype(image) if labels else image.dtype.name,
        voxel_size=_voxel_size(image, voxel_size),
        chunk=chunk,
    )
    _check_dest(array, source)
    if labels:
        _check_labels(image, array)
    else:
        image.read(Box.of_shape((1, 1, 1), array.box.begin))  # a codec that is missing, say
    return fill(array, image.read, labels=labels)


def fill(array: ZarrArray, read: Read, *, labels: bool = False) -> ZarrArray:
    """Make `array` hold what `read` gives, and open it only once it does.

    Slabs that are there already are not written again; where one differs, the array cannot be
    opened until the end.

    Args:
        array: what it shall be; it is created if it is not there.
        read: the voxels of a box of it, (z, y, x) or (c, z, y, x), of any dtype that fits in its.
        labels: whether it holds object ids.

    Raises:
        SegError: another array is there, or of `read`.
    """
    create(array, labels=labels, finish=False)
    for box in tqdm(list(slabs(array)), desc=array.uri, unit="slab", disable=None):
        data = read(box).astype(array.dtype, copy=False)
        if not np.array_equal(array.read(box), data, equal_nan=data.dtype.kind == "f"):
            _undescribe(array)
            array.write(box, data)
    return describe(array, labels=labels)


def slabs(array: ZarrArray) -> Iterator[Box]:
    """Cut an array into boxes of whole chunks, one chunk thick and as wide as memory allows."""
    z, y, x = array.chunk
    width = array.box.shape[2]
    row = z * y * width * (array.channels or 1) * np.dtype(array.dtype).itemsize
    return array.box.tiles((z, y * max(1, _SLAB_BYTES // row), max(x, width)))


def _undescribe(array: ZarrArray) -> None:
    Store(array.uri).remove_file("zarr.json")


def _voxel_size(image: Source, given: VoxelSize | None) -> VoxelSize:
    size = given or image.voxel_size
    if size is None:
        raise SegError(
            f"{image.name}: says nothing of its voxel size; give it in nanometres with: "
            "--voxel-size Z,Y,X"
        )
    z, y, x = (float(s) for s in size)
    if not all(0 < s < float("inf") for s in (z, y, x)):
        raise SegError(
            f"{image.name}: voxel size {z:g} x {y:g} x {x:g} nm (z, y, x): every size must be "
            "above 0; give it with: --voxel-size Z,Y,X"
        )
    return z, y, x


def _labels_dtype(image: Source) -> str:
    if not integer_dtype(image.dtype) or image.channels is not None:
        channels = "one channel" if image.channels is None else f"{image.channels} channels"
        raise SegError(
            f"{image.name}: labels must be integers in one channel, found {image.dtype} in "
            f"{channels}"
        )
    return "uint64" if image.dtype.itemsize > 4 else "uint32"


def _check_labels(image: Source, array: ZarrArray) -> None:
    """Refuse labels without an object, or with ids below 0, which would become other ids."""
    signed, empty = image.dtype.kind == "i", True
    for box in slabs(array):
        data = image.read(box)
        if signed and data.min() < 0:
            raise SegError(f"{image.name}: holds the label {data.min()}; labels must be 0 or more")
        empty = empty and not data.any()
        if not empty and not signed:
            return
    if empty:
        raise SegError(f"{image.name}: has no object: every label in {array.box} is 0")


def _check_dest(array: ZarrArray, source: str) -> None:
    """Refuse to write over the source, or among files that are none of an array like this one."""
    if min(array.chunk) < 1:
        raise SegError(f"chunk {array.chunk}: must be 1 voxel or more along every axis")
    fs, root = open_fs(array.uri)
    if _place(array.uri) == _place(source):
        raise SegError(f"{array.uri}: is the source itself; import it to another place")
    # `0` may be what is left of an import that was killed as it began
    known = {root, f"{root}/0"}
    with reaching(array.uri):
        if not fs.exists(root) or fs.exists(f"{root}/0/zarr.json"):
            return
        other = fs.isfile(root) or {p.rstrip("/") for p in fs.ls(root, detail=False)} - known
    if other:
        raise SegError(f"{array.uri}: is there already and is no array of this project")


def _place(uri: str) -> str:
    return uri.rstrip("/") if "://" in uri else local_root(uri)
