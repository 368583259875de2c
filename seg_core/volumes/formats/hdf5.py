"""HDF5: one dataset of a file, named after a colon."""

from pathlib import Path

import h5py

from seg_core.errors import SegError
from seg_core.volumes.formats.source import Source, guess_axes, nanometres
from seg_core.volumes.ome_zarr import VoxelSize


def open_hdf5(path: str) -> Source | None:
    """Open FILE:DATASET; None where FILE is no HDF5 file.

    The voxel size is the dataset's attribute `resolution` (z, y, x in nm, as CREMI has it) or
    `element_size_um`.

    Raises:
        SegError: no dataset is named, or there is none of that name.
    """
    name, inner = _split(path)
    if not name:
        return None
    file = h5py.File(name, "r")
    dataset = file.get(inner) if inner else None
    if not isinstance(dataset, h5py.Dataset):
        problem = f"has no dataset {inner!r}" if inner else "is HDF5 and needs a dataset"
        known = ", ".join(_datasets(file)) or "none"
        raise SegError(f"{name}: {problem}; expected {name}:DATASET, with one of: {known}")
    return Source(path, dataset, guess_axes(dataset.shape), _voxel_size(dataset))


def _split(path: str) -> tuple[str, str]:
    """File and dataset; an empty file where there is no HDF5 file."""
    ends = [i for i, letter in enumerate(path) if letter == ":"] + [len(path)]
    for end in ends:
        if Path(path[:end]).is_file() and h5py.is_hdf5(path[:end]):
            return path[:end], path[end + 1 :].strip("/")
    return "", ""


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            found.append(name)

    file.visititems(visit)
    return found


def _voxel_size(dataset: h5py.Dataset) -> VoxelSize | None:
    for attribute, unit in (("resolution", "nm"), ("element_size_um", "um")):
        value = dataset.attrs.get(attribute)
        if value is not None and len(value) == 3:
            return nanometres([float(v) for v in value], unit)
    return None
