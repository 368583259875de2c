"""NIfTI: axes are x, y, z, then time (which must be one) or channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from seg_core.volumes.formats.source import Source, nanometres

_AXES = {2: "xy", 3: "xyz", 4: "xyzc", 5: "xyztc"}


@dataclass(frozen=True)
class _Scaled:
    """nibabel's array gives its values scaled, which may make floats of stored integers."""

    proxy: Any
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.proxy.shape)

    def __getitem__(self, index: Any) -> Any:
        return self.proxy[index]


def open_nifti(path: str) -> Source | None:
    """Open a .nii or .nii.gz file; None where it is no such file.

    Its voxels are taken in stored order; the orientation in its header is not applied.
    """
    if not (path.endswith((".nii", ".nii.gz")) and Path(path).is_file()):
        return None
    # an open file is read on from where it is, a gzipped one else from its begin each time
    image: Any = nibabel.load(path, keep_file_open=True)
    proxy = image.dataobj
    dtype = np.asarray(proxy[(slice(0, 1),) * len(proxy.shape)]).dtype
    unit, _ = image.header.get_xyzt_units()
    size = [float(str(zoom)) for zoom in image.header.get_zooms()[:3]]  # of float32: 0.004
    voxel_size = nanometres(size[::-1], unit) if len(size) == 3 else None
    axes = _AXES.get(len(proxy.shape), "?" * len(proxy.shape))
    return Source(path, _Scaled(proxy, dtype), axes, voxel_size)
