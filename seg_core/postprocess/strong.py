"""Voxels that hang together by strong affinities, and what becomes of those that do not."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from skimage.segmentation import watershed

from seg_core.postprocess.postprocess import Offset, WeakVoxels


def direct(offsets: list[Offset]) -> list[Offset]:
    """The offsets that attract: those at distance 1, which come first."""
    return [offset for offset in offsets if max(offset) == 1]


def strong_components(
    affinities: NDArray[np.uint8], offsets: list[Offset], level: float
) -> NDArray[np.int64]:
    """Components (z, y, x) of voxels joined by direct affinities above `level`; 0: weak voxels.

    A voxel that a strong affinity binds to one beyond the array is not weak.
    """
    near = np.array(direct(offsets), dtype=np.int64)
    return np.asarray(_components(affinities[: len(near)], near, int(level * 255)))


@njit(cache=True)
def _find(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def _components(
    affinities: NDArray[np.uint8], offsets: NDArray[np.int64], level: int
) -> NDArray[np.int64]:
    _, nz, ny, nx = affinities.shape
    parent = np.arange(nz * ny * nx)
    bound = np.zeros(nz * ny * nx, np.bool_)
    for c in range(len(offsets)):
        oz, oy, ox = offsets[c]
        step = (oz * ny + oy) * nx + ox
        for z in range(nz):
            for y in range(ny):
                for x in range(nx):
                    if affinities[c, z, y, x] > level:
                        i = (z * ny + y) * nx + x
                        bound[i] = True
                        if z + oz < nz and y + oy < ny and x + ox < nx:
                            bound[i + step] = True
                            a, b = _find(parent, i), _find(parent, i + step)
                            # the smaller index is the root, so the result has one form only
                            if a < b:
                                parent[b] = a
                            else:
                                parent[a] = b
    labels = np.zeros(nz * ny * nx, np.int64)
    for i in range(len(parent)):
        if bound[i]:
            labels[i] = _find(parent, i) + 1
    return labels.reshape(nz, ny, nx)


def settle_weak(
    labels: NDArray[np.uint64],
    weak: NDArray[np.bool_],
    landscape: NDArray[np.float32],
    rule: WeakVoxels,
) -> NDArray[np.uint64]:
    """Labels of the strong voxels, completed by what the rule makes of the weak ones.

    Args:
        labels: (z, y, x), 0 at weak voxels.
        weak: (z, y, x).
        landscape: (z, y, x), low inside objects: fragments grow over it from below.
        rule: see `WeakVoxels`.
    """
    if rule == "own" or (rule == "grow" and not labels.any()):
        labels = labels.copy()
        labels[weak] = labels.max() + np.arange(1, np.count_nonzero(weak) + 1, dtype=np.uint64)
    elif rule == "grow":
        grown = watershed(landscape, markers=labels.astype(np.int32))
        return np.asarray(grown, dtype=np.uint64)
    return labels


def boundary_landscape(affinities: NDArray[np.uint8], offsets: list[Offset]) -> NDArray[np.float32]:
    """Minus the mean of the direct affinities, (z, y, x)."""
    near = affinities[: len(direct(offsets))]
    return -near.mean(0, dtype=np.float32)
