"""The made-up volume: what its labels promise, and that its raw data shows them."""

import hashlib
from pathlib import Path

import cc3d
import numpy as np
import pytest

from seg_core.errors import SegError
from seg_core.phantom import make_phantom, write_phantom
from seg_core.volumes.ome_zarr import VoxelSize, open_array

SHAPE = (24, 64, 64)


@pytest.mark.parametrize(
    ("shape", "voxel_size"),
    [(SHAPE, (10, 10, 10)), (SHAPE, (50, 4.6, 4.6)), ((1, 96, 96), (10, 10, 10)), ((3, 4, 5),) * 2],
)
def test_labels(shape: tuple[int, int, int], voxel_size: VoxelSize) -> None:
    raw, labels = make_phantom(shape, 0, voxel_size)
    assert raw.shape == labels.shape == shape
    assert (raw.dtype, labels.dtype) == (np.uint8, np.uint32)
    ids = np.unique(labels)
    np.testing.assert_array_equal(ids, np.arange(1, len(ids) + 1))
    assert cc3d.connected_components(labels, connectivity=6).max() == len(ids)


def test_cells_have_the_size_of_cells() -> None:
    _, labels = make_phantom((48, 96, 96), 0)
    diameters = (6 / np.pi * np.bincount(labels.ravel())[1:]) ** (1 / 3)
    assert 14 <= np.median(diameters) <= 24
    _, labels = make_phantom((1, 128, 128), 0)
    diameters = (4 / np.pi * np.bincount(labels.ravel())[1:]) ** (1 / 2)
    assert 14 <= np.median(diameters) <= 24


def test_raw_shows_the_borders() -> None:
    raw, labels = make_phantom(SHAPE, 0)
    border = np.zeros(SHAPE, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    assert 0.05 < border.mean() < 0.3
    # dark voxels inside are mitochondria and membranes that run within the section
    assert raw[border].mean() < 100
    assert raw[~border].mean() > 135
    assert np.mean(raw[border] < 120) > 0.8


def test_one_seed_is_one_volume() -> None:
    raw, labels = make_phantom(SHAPE, 0)
    again = make_phantom(list(SHAPE), 0)
    np.testing.assert_array_equal(raw, again[0])
    np.testing.assert_array_equal(labels, again[1])
    assert (make_phantom(SHAPE, 1)[1] != labels).any()
    # the labels of one machine, which every other must give too
    assert hashlib.sha256(labels.tobytes()).hexdigest()[:16] == "8af8ca701d3bd1d1"


@pytest.mark.parametrize(
    ("shape", "voxel_size"), [((0, 4, 4), (1.0, 1.0, 1.0)), ((4, 4, 4), (0.0, 1.0, 1.0))]
)
def test_nothing_of_size_zero(shape: tuple[int, int, int], voxel_size: VoxelSize) -> None:
    with pytest.raises(SegError, match="above 0"):
        make_phantom(shape, 0, voxel_size)


def test_writing_again_touches_no_file(tmp_path: Path) -> None:
    raw, labels = write_phantom(f"{tmp_path}/p/", (8, 40, 40), 0, (20, 10, 10))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    write_phantom(f"{tmp_path}/p", (8, 40, 40), 0, (20, 10, 10))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    expected = make_phantom((8, 40, 40), 0, (20, 10, 10))
    for array, data in zip((raw, labels), expected, strict=True):
        opened = open_array(array.uri)
        assert opened.voxel_size == (20, 10, 10)
        np.testing.assert_array_equal(opened.read(), data)
    with pytest.raises(SegError, match="another array"):
        write_phantom(f"{tmp_path}/p", (8, 40, 32), 0)
