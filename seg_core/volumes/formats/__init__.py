"""File formats that can be imported: one file per format, chosen by what is there."""

from collections.abc import Callable
from pathlib import Path

from seg_core.errors import SegError
from seg_core.volumes.formats.hdf5 import open_hdf5
from seg_core.volumes.formats.n5 import open_n5
from seg_core.volumes.formats.nifti import open_nifti
from seg_core.volumes.formats.slices import open_slices
from seg_core.volumes.formats.source import Source, reading
from seg_core.volumes.formats.tiff import open_tiff
from seg_core.volumes.formats.zarr import open_zarr

__all__ = ["Source", "open_source"]

KNOWN = (
    "a TIFF, a PNG, a folder of TIFF or PNG slices, HDF5 as FILE.h5:DATASET, NIfTI, "
    "N5 as FOLDER.n5/DATASET, Zarr or OME-Zarr"
)

# each returns None for what is not of its format
_OPENERS: tuple[Callable[[str], Source | None], ...] = (
    open_zarr,
    open_n5,
    open_slices,
    open_tiff,
    open_nifti,
    open_hdf5,
)


def open_source(path: str) -> Source:
    """Open an image or labels of any known format, without reading its voxels.

    Args:
        path: a file or folder; Zarr and N5 also as gs:// or s3://.

    Raises:
        SegError: it is not there, of no known format, no volume, or broken.
    """
    with reading(path):
        for opener in _OPENERS:
            source = opener(path)
            if source is not None:
                return source
    problem = "is of no known format" if Path(path).exists() else "is not there"
    raise SegError(f"{path}: {problem}; expected {KNOWN}")
