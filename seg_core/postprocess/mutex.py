"""Fragments by the mutex watershed, joined by agglomeration across sub-blocks and blocks."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seg_core.postprocess.postprocess import Agglomeration, Fraction, Joined, Offset, WeakVoxels
from seg_core.volumes.ome_zarr import VoxelSize


class MutexWatershed(Joined):
    """Wolf et al. 2018: direct affinities attract, long-range ones only repel."""

    kind: Literal["mutex_watershed"] = "mutex_watershed"
    agglomeration: Agglomeration = Agglomeration(repulsion=1.0)
    neutral: Fraction = 0.5
    """Affinities above it attract, those below it repel; membrane has none above it."""
    weak_voxels: WeakVoxels = "grow"

    def label(
        self,
        prediction: NDArray[np.uint8],
        offsets: list[Offset],
        voxel_size: VoxelSize,  # noqa: ARG002 - edges have no length
    ) -> NDArray[np.uint64]:
        """Fragments of one sub-block."""
        import mwatershed

        from seg_core.kernels.relabel import compact
        from seg_core.postprocess.strong import (
            boundary_landscape,
            direct,
            settle_weak,
            strong_components,
        )

        weak = strong_components(prediction, offsets, self.neutral) == 0
        weights = prediction / 255 - self.neutral
        # an edge of weight zero is none at all
        weights[len(direct(offsets)) :] = weights[len(direct(offsets)) :].clip(max=0)
        _cut(weights, offsets, weak)
        # offsets longer than the sub-block relate nothing in it, and mwatershed panics at them
        near = [c for c, o in enumerate(offsets) if all(np.less(o, weak.shape))]
        labels = mwatershed.agglom(weights[near], [offsets[c] for c in near]).astype(np.uint64)
        lone = ~weak & (labels == 0)  # bound only to voxels beyond the sub-block
        labels[weak] = 0
        labels[lone] = labels.max() + np.arange(1, np.count_nonzero(lone) + 1, dtype=np.uint64)
        compacted, _ = compact(labels)
        return settle_weak(
            compacted, weak, boundary_landscape(prediction, offsets), self.weak_voxels
        )


def _cut(weights: NDArray[np.float64], offsets: list[Offset], weak: NDArray[np.bool_]) -> None:
    """Take away every edge of a weak voxel."""
    weights[:, weak] = 0
    for weight, offset in zip(weights, offsets, strict=True):
        here = tuple(slice(0, max(0, n - o)) for n, o in zip(weak.shape, offset, strict=True))
        there = tuple(slice(min(o, n), n) for n, o in zip(weak.shape, offset, strict=True))
        weight[here][weak[there]] = 0
