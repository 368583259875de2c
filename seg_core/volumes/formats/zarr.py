"""Zarr 2 and 3: a bare array, or an OME-Zarr group's full resolution; local, gs:// or s3://."""

from typing import Any

import numpy as np
import zarr

from seg_core.errors import SegError
from seg_core.geometry import AXES
from seg_core.remote import open_fs, zarr_store
from seg_core.volumes.formats.source import Source, guess_axes, nanometres
from seg_core.volumes.ome_zarr import NANOMETRES, VoxelSize, axis_names, placement

_FILES = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(path: str) -> Source | None:
    """Open an array or OME-Zarr group; None where there is no Zarr.

    Raises:
        SegError: it is a group without OME-Zarr metadata.
    """
    fs, root = open_fs(path)
    if not any(fs.exists(f"{root}/{file}") for file in _FILES):
        return None
    node = zarr.open(zarr_store(path), mode="r")
    if isinstance(node, zarr.Array):
        return _bare(path, node)
    attributes: dict[str, Any] = dict(node.attrs)
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        known = ", ".join(n for n, m in node.members(max_depth=3) if isinstance(m, zarr.Array))
        raise SegError(
            f"{path}: is a Zarr group without OME-Zarr metadata; expected {path}/ARRAY "
            f"of: {known or 'none'}"
        )
    array = node[scales[0]["datasets"][0]["path"]]
    assert isinstance(array, zarr.Array)
    axes = "".join(n if len(n) == 1 else str(i) for i, n in enumerate(axis_names(scales[0])))
    return Source(path, array, axes, _ome_size(scales[0]))


def _ome_size(multiscale: dict[str, Any]) -> VoxelSize | None:
    axes = [axis for axis in multiscale.get("axes", ()) if isinstance(axis, dict)]
    known = {axis["name"] for axis in axes if axis.get("unit") in NANOMETRES}
    if not known >= set(AXES):
        return None
    scale, _ = placement(multiscale)
    return scale["z"], scale["y"], scale["x"]


def _bare(path: str, array: "zarr.Array[Any]") -> Source:
    """An array says what its axes are and their size, if at all, in one of several dialects."""
    attributes: dict[str, Any] = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None)
    names = names or attributes.get("_ARRAY_DIMENSIONS") or attributes.get("axis_names") or []
    axes = "".join(str(name).removesuffix("^").lower() for name in names)
    if len(axes) != array.ndim or not {"y", "x"} <= set(axes) <= set("tczyx"):
        axes = guess_axes(array.shape)
    size = attributes.get("voxel_size", attributes.get("resolution"))
    if not isinstance(size, list) or len(size) < 3:
        return Source(path, array, axes)
    units = attributes.get("units", ["nm"])
    unit = units[-1] if isinstance(units, list) and units else units
    return Source(path, array, axes, nanometres(np.asarray(size[-3:], float).tolist(), str(unit)))
