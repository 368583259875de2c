"""The most probable class."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seg_core.postprocess.postprocess import Offset, Postprocess
from seg_core.volumes.ome_zarr import VoxelSize


class Argmax(Postprocess):
    """Number of the channel with the highest value; of equal ones the first."""

    kind: Literal["argmax"] = "argmax"

    def label(
        self,
        prediction: NDArray[np.uint8],
        offsets: list[Offset],  # noqa: ARG002
        voxel_size: VoxelSize,  # noqa: ARG002
    ) -> NDArray[np.uint64]:
        """Class ids; 0 is the background."""
        return prediction.argmax(0).astype(np.uint64)
