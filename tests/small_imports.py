"""An array of a few voxels, and its import."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.volumes.importing import import_array
from seg_core.volumes.ome_zarr import ZarrArray, open_array

SIZE = (50.0, 4.6, 8.0)
SHAPE = (11, 20, 14)
CHUNK = (4, 8, 8)


def volume(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def imported(source: Path | str, dest: Path, **options: Any) -> ZarrArray:
    options.setdefault("voxel_size", None)
    import_array(str(source), str(dest / "out.zarr"), chunk=CHUNK, **options)
    return open_array(str(dest / "out.zarr"))
