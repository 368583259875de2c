"""Arrays of voxels as OME-Zarr (NGFF 0.5): zarr describes them, tensorstore moves the voxels."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

from seg_core.errors import SegError
from seg_core.geometry import AXES, Box, Triple, triple
from seg_core.remote import RETRIES, is_remote, kvstore, reaching, unreachable, zarr_store
from seg_core.store import Store

VoxelSize = tuple[float, float, float]

NANOMETRES = {
    **dict.fromkeys(("angstrom", "Å"), 0.1),
    **dict.fromkeys(("nanometer", "nm"), 1.0),
    **dict.fromkeys(("micrometer", "micron", "um", "µm", "μm"), 1e3),
    **dict.fromkeys(("millimeter", "mm"), 1e6),
    **dict.fromkeys(("centimeter", "cm"), 1e7),
    **dict.fromkeys(("meter", "m"), 1e9),
}
"""Units of length as files name them; others are no length (pixels, say)."""

_TRIES = 10

# one pool for all arrays of a process, so that a halo is read from memory and not once more
_CONTEXT = ts.Context(
    {
        "cache_pool": {"total_bytes_limit": 256 << 20},
        "data_copy_concurrency": {"limit": 2},
        **RETRIES,
    }
)


@dataclass(frozen=True)
class ZarrArray:
    """A (z, y, x) or (c, z, y, x) array with its place in the world.

    Attributes:
        uri: the OME-Zarr group.
        box: the voxels that it covers, in the grid of its volume.
        channels: length of the leading axis, None where there is none.
        voxel_size: nanometres along z, y, x.
        chunk: voxels of a chunk along z, y, x.
        attributes: what a writer added: the scale of a prediction, names of channels.
        path: the array of full resolution in the group; `0` in all that this project writes.
        zarr_format: 3 in all that this project writes.
    """

    uri: str
    box: Box
    channels: int | None
    dtype: str
    voxel_size: VoxelSize
    chunk: Triple
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    path: str = "0"
    zarr_format: int = 3

    @cached_property
    def _tensorstore(self) -> Any:
        try:
            return _open_tensorstore(self)
        except ValueError as error:
            raise self._unreadable(error) from error

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_tensorstore"}

    def _index(self, box: Box) -> tuple[slice, ...]:
        if not self.box.contains(box):
            raise SegError(f"{self.uri}: {box} reaches outside the array, which is {self.box}")
        slices = box.relative_to(self.box.begin).slices
        return slices if self.channels is None else (slice(None), *slices)

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """The voxels of a box, (z, y, x) or (c, z, y, x).

        Raises:
            SegError: the box reaches outside, or a chunk of it cannot be read.
        """
        index = self._index(box or self.box)
        try:
            return np.asarray(self._tensorstore[index].read().result())
        except ValueError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: ValueError) -> SegError:
        if is_remote(self.uri) and "retry attempts failed" in str(error):
            return SegError(unreachable(self.uri, error))
        return SegError(f"{self.uri}: cannot be read: {str(error).splitlines()[0]}")

    def read_mirrored(self, box: Box) -> NDArray[Any]:
        """As `read`, for any box: beyond its edges the array goes on as its mirror image."""
        inside = box.clip(self.box)
        if inside == box:
            return self.read(box)
        index = [
            mirror(np.arange(b, e), low, high)
            for b, e, low, high in zip(
                box.begin, box.end, self.box.begin, self.box.end, strict=True
            )
        ]
        needed = Box(
            triple([int(i.min()) for i in index]), triple([int(i.max()) + 1 for i in index])
        )
        data = self.read(needed)
        z, y, x = (i - b for i, b in zip(index, needed.begin, strict=True))
        return data[..., z[:, None, None], y[None, :, None], x[None, None, :]]

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write the voxels of a box, which must be made of whole chunks (or end with the array).

        Raises:
            SegError: the box cuts a chunk: two writers of its parts would undo each other; or the
                object store cannot be reached.
        """
        for b, e, low, high, c in zip(
            box.begin, box.end, self.box.begin, self.box.end, self.chunk, strict=True
        ):
            if (b - low) % c or ((e - low) % c and e != high):
                raise SegError(f"{self.uri}: {box} is not aligned to chunks of {self.chunk}")
        target = self._tensorstore[self._index(box)]
        with reaching(self.uri):
            target.write(data).result()


def mirror(index: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Fold positions outside [low, high) back inside, the edge voxel being the mirror."""
    length = high - low
    period = max(1, 2 * (length - 1))
    folded = np.abs((index - low) % period)
    return low + np.where(folded >= length, period - folded, folded)


def create(
    array: ZarrArray, *, labels: bool = False, overwrite: bool = False, finish: bool = True
) -> ZarrArray:
    """Make an array on disk, all zeros; one that is there with the same metadata is kept.

    Args:
        array: what it shall be.
        labels: whether it holds object ids, so that viewers show it as labels.
        overwrite: make a new one where another is there; else that is an error.
        finish: whether it counts as complete at once; else when `describe` is called.
    """
    for _ in range(_TRIES):
        # whoever finds that another process made it at this moment looks again, and keeps it
        with suppress(zarr.errors.ContainsArrayError, zarr.errors.ContainsGroupError):
            return _create(array, labels, overwrite, finish)
    raise SegError(f"{array.uri}: other processes make it again and again; let one end first")


def _create(array: ZarrArray, labels: bool, overwrite: bool, finish: bool) -> ZarrArray:
    group = Store(array.uri)
    if (stored := group.read_json("0/zarr.json")) is not None:
        if _same_layout(array, stored):
            return describe(array, labels=labels) if finish else array
        if not overwrite:
            raise SegError(f"{array.uri} is there already and is another array; remove it first")
        group.remove("")
    lead = () if array.channels is None else (array.channels,)
    with reaching(array.uri):
        zarr.create_array(
            zarr_store(f"{group.uri}/0"),
            shape=(*lead, *array.box.shape),
            chunks=(*lead, *array.chunk),
            dtype=array.dtype,
            fill_value=0,
            compressors=ZstdCodec(level=3),
            dimension_names=["c", *AXES] if lead else list(AXES),
        )
    return describe(array, labels=labels) if finish else array


def _same_layout(array: ZarrArray, stored: dict[str, Any]) -> bool:
    lead = [] if array.channels is None else [array.channels]
    return bool(
        stored["shape"] == [*lead, *array.box.shape]
        and stored["data_type"] == np.dtype(array.dtype).name
        and stored["chunk_grid"]["configuration"]["chunk_shape"] == [*lead, *array.chunk]
    )


def describe(array: ZarrArray, *, labels: bool = False) -> ZarrArray:
    """Write the NGFF metadata of the group: from now on the array can be opened."""
    group, wanted = Store(array.uri), _metadata(array, labels)
    if group.read_json("zarr.json") != wanted:
        group.write_json("zarr.json", wanted)
    return array


def _metadata(array: ZarrArray, labels: bool) -> Any:
    """Of the group, as JSON gives it back: a tuple is a list."""
    lead = [] if array.channels is None else [1.0]
    offset = [b * v for b, v in zip(array.box.begin, array.voxel_size, strict=True)]
    transformations = [
        {"type": "scale", "scale": [*lead, *array.voxel_size]},
        {"type": "translation", "translation": [*([0.0] if lead else []), *offset]},
    ]
    axes = [{"name": "c", "type": "channel"}] if lead else []
    space = [{"name": a, "type": "space", "unit": "nanometer"} for a in AXES]
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": array.uri.rsplit("/", 1)[-1].removesuffix(".zarr"),
                "axes": [*axes, *space],
                "datasets": [{"path": "0", "coordinateTransformations": transformations}],
            }
        ],
    }
    if labels:
        ome["image-label"] = {"version": "0.5"}
    attributes = {"ome": ome, "seg": array.attributes}
    wanted = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.loads(json.dumps(wanted))


def describe_kept(array: ZarrArray, *, labels: bool = False) -> None:
    """As `describe`, of an array of this shape that is there; nothing happens where there is none.

    What its metadata says (its voxel size) may have changed though no voxel of it did.
    """
    group = Store(array.uri)
    if group.read_json("zarr.json") in (None, _metadata(array, labels)):
        return
    stored = group.read_json("0/zarr.json")
    if stored is not None and _same_layout(array, stored):
        describe(array, labels=labels)


def open_array(uri: str) -> ZarrArray:
    """Open an OME-Zarr group that was written by this project or by others (NGFF 0.4 or 0.5).

    Raises:
        SegError: there is none, or its axes are not [c,] z, y, x.
    """
    try:
        with reaching(uri):
            group = zarr.open_group(zarr_store(uri), mode="r")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        raise SegError(
            f"{uri}: no OME-Zarr is there (or its import did not end); make it with: "
            f"seg import SOURCE {uri}"
        ) from None
    except zarr.errors.ContainsArrayError:
        raise SegError(
            f"{uri}: is a bare array without OME-Zarr metadata; bring it in with: "
            f"seg import {uri} DEST"
        ) from None
    attributes: dict[str, Any] = dict(group.attrs)
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        raise SegError(f"{uri}: has no OME-Zarr metadata; bring it in with: seg import {uri} DEST")
    axes = axis_names(scales[0])
    if axes not in (list(AXES), ["c", *AXES]):
        raise SegError(f"{uri}: its axes are {axes}; expected z, y, x or c, z, y, x")
    path = scales[0]["datasets"][0]["path"]
    with reaching(uri):
        data = group.get(path)
    if not isinstance(data, zarr.Array):
        raise SegError(f"{uri}: its metadata names an array {path!r}, which is not there")
    scale, offset = placement(scales[0])
    # a size of 0 is an error that the volume reports; its offset means nothing
    begin = [round(offset[a] / scale[a]) if scale[a] else 0 for a in AXES]
    return ZarrArray(
        uri=uri,
        box=Box.of_shape(data.shape[-3:], begin),
        channels=data.shape[0] if len(axes) == 4 else None,
        dtype=np.dtype(data.dtype).name,
        voxel_size=(scale["z"], scale["y"], scale["x"]),
        chunk=triple((data.shards or data.chunks)[-3:]),  # of what one file holds
        attributes=dict(attributes.get("seg", {})),
        path=path,
        zarr_format=data.metadata.zarr_format,
    )


def axis_names(multiscale: dict[str, Any]) -> list[str]:
    """Names of the axes; NGFF up to 0.3 wrote bare names, up to 0.2 none for t, c, z, y, x."""
    axes = multiscale.get("axes", ["t", "c", *AXES])
    return [axis if isinstance(axis, str) else axis["name"] for axis in axes]


def placement(multiscale: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Scale and offset of the full resolution by axis name, in nanometres where a unit is known."""
    names = axis_names(multiscale)
    scale, offset = np.ones(len(names)), np.zeros(len(names))
    levels = [multiscale["datasets"][0], multiscale]  # what is said of all levels applies last
    for step in [t for level in levels for t in level.get("coordinateTransformations", ())]:
        factor = np.asarray(step.get("scale", 1.0), float)
        scale, offset = scale * factor, offset * factor + step.get("translation", 0.0)
    axes = [axis if isinstance(axis, dict) else {} for axis in multiscale.get("axes", names)]
    unit = [NANOMETRES.get(axis.get("unit", ""), 1.0) for axis in axes]
    return (
        dict(zip(names, (scale * unit).tolist(), strict=True)),
        dict(zip(names, (offset * unit).tolist(), strict=True)),
    )


def _open_tensorstore(array: ZarrArray) -> Any:
    uri = array.uri
    if is_remote(uri):
        place = kvstore(f"{uri}/{array.path}")
    else:  # a local path as a URL would have to be absolute and its spaces and % be quoted
        root = local_root(uri.removeprefix("file://"))
        place = {"driver": "file", "path": f"{root}{array.path}/"}
    driver = "zarr3" if array.zarr_format == 3 else "zarr"
    # a chunk that was read since is not asked for again: not for every halo that it is in
    spec = {"driver": driver, "kvstore": place, "recheck_cached_data": "open"}
    return ts.open(spec, context=_CONTEXT).result()


def local_root(path: str) -> str:
    """A local folder as tensorstore wants it: absolute, without `..`, with a / at its end."""
    return f"{Path(path).resolve()}/"


def integer_dtype(dtype: DTypeLike) -> bool:
    """Whether a dtype can hold labels."""
    return np.issubdtype(np.dtype(dtype), np.integer)
