"""A made-up electron-microscopy volume with its ground truth, for trying everything without data.

Cells are those of a Voronoi diagram, stretched along z like neurites and warped so that their
borders bend. Only numpy's `default_rng` draws numbers, so that a seed gives one volume anywhere.
"""

from collections.abc import Sequence
from functools import partial

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from seg_core.errors import SegError
from seg_core.geometry import Box, Triple, triple
from seg_core.volumes.importing import fill
from seg_core.volumes.ome_zarr import VoxelSize, ZarrArray

_DIAMETER = 19.0  # distance of neighbouring cells within a section, voxels
_STRETCH = 1.5  # how much longer cells are along z
_WARP = 2.0  # standard deviation of a border's shift, voxels
_WARP_GRID = 15  # voxels between two independent shifts
_SMALLEST = 200  # voxels of a piece that may be a cell of its own, in up to 6 sections fewer

_MEMBRANE, _MITOCHONDRION, _CYTOPLASM = 55.0, 105.0, 170.0


def make_phantom(
    shape: Sequence[int], seed: int, voxel_size: VoxelSize = (10, 10, 10)
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Raw data and the cells that it shows, both of `shape`.

    Args:
        shape: voxels along z, y, x; a z of 1 gives a 2D image.
        seed: equal seeds give equal volumes.
        voxel_size: nanometres along z, y, x; the thicker the sections, the fewer a cell spans.

    Returns:
        raw: uint8; membranes are dark, one or two voxels wide, as are mitochondria.
        labels: uint32; every voxel has a cell, 1 to their number, each connected by faces.

    Raises:
        SegError: a length or a voxel size is not above 0.
    """
    if min(shape) < 1 or not min(voxel_size) > 0:
        raise SegError(f"phantom of shape {shape}, voxel size {voxel_size}: all must be above 0")
    rng = np.random.default_rng(seed)
    z, y, x = triple(shape)
    # sections of real volumes are up to ten times as thick as pixels; cells must span a few
    thickness = float(np.clip(2 * voxel_size[0] / (voxel_size[1] + voxel_size[2]), 0.5, 4.0))
    labels = _connected(_voronoi((z, y, x), thickness, rng))
    membrane = _membrane(labels, along_z=thickness < 1.5)
    depth = ndimage.distance_transform_edt(~membrane, sampling=(thickness, 1.0, 1.0))
    brightness = rng.normal(_CYTOPLASM, 9.0, int(labels.max()) + 1)
    raw = brightness[labels].astype(np.float32)
    raw += 6.0 * _smooth_noise((z, y, x), 3, rng)  # vesicles, microtubules: the texture inside
    _add_mitochondria(raw, labels, depth, thickness, rng)
    raw[membrane] = _MEMBRANE
    raw = ndimage.gaussian_filter(raw, (0.5 / thickness, 0.6, 0.6))
    raw += rng.standard_normal(raw.shape, np.float32) * 10
    return np.clip(np.rint(raw), 0, 255).astype(np.uint8), labels


def write_phantom(
    dest: str, shape: Sequence[int], seed: int, voxel_size: VoxelSize = (10, 10, 10)
) -> tuple[ZarrArray, ZarrArray]:
    """Make a phantom as `dest`/raw.zarr and `dest`/labels.zarr; what is there already is kept.

    Raises:
        SegError: as `make_phantom`, or one of them is there with another shape.
    """
    raw, labels = make_phantom(shape, seed, voxel_size)
    box = Box.of_shape(raw.shape)
    chunk = triple([min(32, s) for s in raw.shape])
    arrays = []
    for name, data in (("raw", raw), ("labels", labels)):
        uri = f"{dest.rstrip('/')}/{name}.zarr"
        array = ZarrArray(uri, box, None, data.dtype.name, voxel_size, chunk)
        arrays.append(fill(array, partial(_part, data), labels=name == "labels"))
    return arrays[0], arrays[1]


def _part(data: NDArray[np.generic], box: Box) -> NDArray[np.generic]:
    return data[box.slices]


def _voronoi(shape: Triple, thickness: float, rng: np.random.Generator) -> NDArray[np.uint32]:
    """The nearest seed of every warped voxel: one seed, anywhere in it, for each cube of a grid."""
    squash = np.array([thickness / _STRETCH, 1.0, 1.0])  # to the space in which cells are round
    extent = np.array(shape) * squash
    counts = np.ceil(extent / _DIAMETER).astype(int) + 4  # two more on each side: no flat borders
    corners = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    tree = cKDTree((corners - 2 + rng.uniform(size=corners.shape)) * _DIAMETER)
    warp = np.stack([_smooth_noise(shape, _WARP_GRID, rng) for _ in range(3)], -1) * _WARP
    plane = np.stack(np.meshgrid(*map(np.arange, (1, *shape[1:])), indexing="ij"), -1)[0]
    labels = np.empty(shape, np.uint32)
    for z in range(shape[0]):
        points = (plane + np.array([z, 0, 0])) * squash + warp[z]
        labels[z] = tree.query(points)[1] + 1
    return labels


def _smooth_noise(shape: Triple, grid: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of about unit variance that varies over `grid` voxels."""
    coarse = rng.standard_normal([-(-s // grid) + 3 for s in shape])
    at = [np.arange(s) / grid + 1 for s in shape]
    for axis, positions in enumerate(at):
        low = positions.astype(int)
        part = np.expand_dims(positions - low, [a for a in range(3) if a != axis])
        part = part * part * (3 - 2 * part)  # without a kink at the grid's points
        coarse = np.take(coarse, low, axis) * (1 - part) + np.take(coarse, low + 1, axis) * part
    return (coarse * 1.5).astype(np.float32)


def _connected(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """One label per piece; the warp's splinters go to the cells around them."""
    pieces = cc3d.connected_components(labels, connectivity=6)
    splinters = np.bincount(pieces.ravel()) < min(_SMALLEST, 30 * labels.shape[0])
    if splinters[pieces].any() and not splinters[1:].all():
        pieces[splinters[pieces]] = 0
        pieces = watershed(np.zeros(pieces.shape, np.uint8), pieces.astype(np.int32))
    unique = cc3d.connected_components(pieces.astype(np.uint32), connectivity=6)
    return np.asarray(unique, np.uint32)


def _membrane(labels: NDArray[np.uint32], along_z: bool) -> NDArray[np.bool_]:
    """Voxels on either side of a border; in thick sections only of borders within them."""
    membrane = np.zeros(labels.shape, np.bool_)
    for axis in range(0 if along_z else 1, 3):
        low = np.swapaxes(labels, 0, axis)
        differs = low[1:] != low[:-1]
        view = np.swapaxes(membrane, 0, axis)
        view[1:] |= differs
        view[:-1] |= differs
    return membrane


def _add_mitochondria(
    raw: NDArray[np.float32],
    labels: NDArray[np.uint32],
    depth: NDArray[np.float64],
    thickness: float,
    rng: np.random.Generator,
) -> None:
    """Darken an ellipsoid in some cells, about the voxel that is deepest in it."""
    cells = np.arange(1, int(labels.max()) + 1)
    deepest = ndimage.maximum_position(depth, labels, cells)
    boxes = ndimage.find_objects(labels.astype(np.int32))
    for cell, centre, box in zip(cells, deepest, boxes, strict=True):
        has, size = rng.uniform() < 0.45, rng.uniform(0.55, 0.8)
        radius = depth[tuple(centre)] * size
        if not has or radius < 2.5:
            continue
        scale = (thickness / 1.6, 1.0, 1.0)  # longer along z, as the cell is
        axes = [
            (np.arange(s.start, s.stop) - c) * k for s, c, k in zip(box, centre, scale, strict=True)
        ]
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        ellipsoid = sum(g * g for g in grid) < radius * radius
        inside = ellipsoid & (labels[box] == cell) & (depth[box] > 1.5)
        raw[box][inside] = _MITOCHONDRION
