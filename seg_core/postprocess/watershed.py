"""Fragments by a seeded watershed on the affinities, joined by mean-affinity agglomeration."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from seg_core.postprocess.postprocess import Fraction, Joined, Offset, WeakVoxels
from seg_core.volumes.ome_zarr import VoxelSize


class Watershed(Joined):
    """Watershed of minus the mean affinity, which puts borders where the affinities have them."""

    kind: Literal["watershed"] = "watershed"
    seed_affinity: Fraction = 0.7
    """Seeds lie where all direct affinities are above this."""
    seed_distance: PositiveFloat = 5.0
    """Least distance of two seeds, in units of the smallest voxel size."""
    strong_affinity: Fraction = 0.5
    """A fragment holds only voxels that affinities above this connect."""
    weak_voxels: WeakVoxels = "grow"

    def label(
        self, prediction: NDArray[np.uint8], offsets: list[Offset], voxel_size: VoxelSize
    ) -> NDArray[np.uint64]:
        """Fragments of one sub-block.

        The flood may cross a border where a piece of an object has no seed of its own, as at the
        faces of a sub-block; what it reached beyond is split off by the strong components.
        """
        from skimage.segmentation import watershed

        from seg_core.kernels.relabel import compact
        from seg_core.postprocess.strong import (
            boundary_landscape,
            direct,
            settle_weak,
            strong_components,
        )

        components = strong_components(prediction, offsets, self.strong_affinity)
        strong = components > 0
        landscape = boundary_landscape(prediction, offsets)
        near = prediction[: len(direct(offsets))]
        seeds = self._seeds(near.min(0) > self.seed_affinity * 255, voxel_size)
        flooded = watershed(landscape, markers=seeds, mask=strong)
        pairs = components * (int(flooded.max()) + 1) + flooded
        labels, _ = compact(np.where(strong, pairs, 0).astype(np.uint64))
        return settle_weak(labels, ~strong, landscape, self.weak_voxels)

    def _seeds(self, inner: NDArray[np.bool_], voxel_size: VoxelSize) -> NDArray[np.int32]:
        import cc3d
        from scipy.ndimage import distance_transform_edt, maximum_filter

        scale = np.array(voxel_size) / min(voxel_size)
        # a frame of outside: without it a sub-block without borders has no distance at all
        distance = distance_transform_edt(np.pad(inner, 1), sampling=scale)[1:-1, 1:-1, 1:-1]
        reach = [2 * int(self.seed_distance / s) + 1 for s in scale]
        peaks = (maximum_filter(distance, size=reach) == distance) & inner
        return np.asarray(cc3d.connected_components(peaks), dtype=np.int32)
