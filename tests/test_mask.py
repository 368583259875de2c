"""What lies outside the mask costs nothing and is background, blockwise as in the whole."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_stores import masked_volume
from numpy.typing import NDArray
from stores import give_prediction, ideal_affinities, ideal_segments, random_labels, read
from test_exact_prediction import OFFSETS as PREDICTED
from test_exact_prediction import assert_equals_whole, image, predicted, run_on, whole_volume

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.fragments import make_fragments
from seg_core.geometry import Box, Triple, triple
from seg_core.lut import make_lut
from seg_core.postprocess.mutex import MutexWatershed
from seg_core.postprocess.postprocess import Joined, Offset
from seg_core.postprocess.watershed import Watershed
from seg_core.predict import Predict, predict
from seg_core.segmentation import make_segmentation
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.volumes.mask import INSIDE, OUTSIDE

DIRECT: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
PARAMETERS = {"threshold": 0.5, "size_penalty": 0.0, "repulsion": 0.0, "min_size": 0.0}


def upsampled(mask: NDArray[Any], factor: Triple, shape: Triple) -> NDArray[np.bool_]:
    for axis in range(3):
        mask = mask.repeat(factor[axis], axis)
    return mask[Box.of_shape(shape).slices] != 0


def random_mask(random: np.random.Generator, shape: Triple) -> NDArray[np.int8]:
    """Clumps, with blocks all inside and all outside among them."""
    grain = triple(random.integers(1, 9, 3))
    return (random_labels(random, shape, range(3), grain) - 1).astype(np.int8)  # -1 is inside too


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
factors = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@given(shape=shapes, factor=factors, seed=st.integers(0, 1000), with_rois=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_mask_says_what_numpy_says(
    shape: Triple, factor: Triple, seed: int, with_rois: bool
) -> None:
    random = np.random.default_rng(seed)
    coarse = triple([-(-n // f) for n, f in zip(shape, factor, strict=True)])
    data = random_mask(random, coarse)
    data.flat[0] = 1
    expected = upsampled(data, factor, shape)
    rois = [f"0:{shape[0]}, 0:1, 0:1", f"0:1, :, 0:{-(-shape[2] // 2)}"] if with_rois else None
    if rois:
        inside = np.zeros(shape, bool)
        inside[:, :1, :1] = inside[:1, :, : -(-shape[2] // 2)] = True
        expected = expected & inside
    with TemporaryDirectory() as folder:
        store = Store(folder)
        raw = np.zeros(shape, np.uint8)
        if coarse == shape and factor != (1, 1, 1):
            factor = (1, 1, 1)
        volume = masked_volume(store, raw, data, factor=factor, block=(4, 8, 4), rois=rois)
        mask, grid = volume.mask, volume.grid
        assert mask
        np.testing.assert_array_equal(mask.read(volume.roi), expected)
        found = mask.describe({key: grid.box(key) for key in grid})
        for key in grid:
            part = expected[grid.box(key).slices]
            assert (found[key] == INSIDE) == part.all()
            assert (found[key] == OUTSIDE) == (not part.any())
        assert volume.outside() == {k for k in grid if not expected[grid.box(k).slices].any()}
        assert mask.describe({key: grid.box(key) for key in grid}) == found


def assert_masked(
    got: NDArray[np.uint64], labels: NDArray[np.int64], inside: NDArray[np.bool_]
) -> None:
    """Background outside, and inside exactly what touches there."""
    assert not got[~inside].any()
    assert got[inside].all()
    expected = ideal_segments(np.where(inside, labels, 0))
    pairs = np.unique(np.stack([got[inside].astype(np.int64), expected[inside]]), axis=1)
    assert len(pairs[0]) == len(np.unique(got[inside])) == len(np.unique(expected[inside]))


def masked_affinities(
    labels: NDArray[np.int64], inside: NDArray[np.bool_], offsets: list[Offset]
) -> NDArray[np.uint8]:
    return ideal_affinities(np.where(inside, labels, 0), offsets)


@pytest.mark.parametrize("method", [Watershed, MutexWatershed])
@given(
    seed=st.integers(0, 1000),
    long=st.sampled_from([[], [(0, 0, 3), (0, 5, 0)]]),
    block=st.sampled_from([(4, 8, 8), (8, 4, 12), (16, 16, 16)]),
)
@settings(max_examples=6, deadline=None, derandomize=True)
def test_blockwise_with_a_mask_is_the_whole_with_a_mask(
    method: type[Joined], seed: int, long: list[Offset], block: Triple
) -> None:
    random = np.random.default_rng(seed)
    shape = (9, 14, 16)
    labels = random_labels(random, shape, range(1, 4), triple(random.integers(1, 7, 3)))
    data = random_mask(random, shape)
    data[0, 0, 0] = 1
    inside = data != 0
    offsets = DIRECT + long
    task = Affinities(postprocess=method(weak_voxels="own", sub_block=(4, 4, 4)), offsets=offsets)
    with TemporaryDirectory() as folder:
        store = Store(folder)
        volume = masked_volume(store, np.zeros(shape, np.uint8), data, block=block)
        output = Output(store, "runs/r/v", volume)
        give_prediction(output, masked_affinities(labels, inside, offsets))
        outside = volume.outside()
        made = make_fragments(task, output, 8, None, Options()).made
        assert made == [key for key in volume.grid if key not in outside]
        table, _ = make_lut(task, output, PARAMETERS)
        assert list(table.slices) == made
        assert make_segmentation(task, output, None, Options()).made == made
        assert_masked(read(output, "segmentation"), labels, inside)


def test_fragments_that_grow_over_weak_voxels_do_not_grow_through_the_outside(
    tmp_path: Path,
) -> None:
    shape, labels = (1, 1, 9), np.ones((1, 1, 9), np.int64)
    data = np.ones(shape, np.uint8)
    data[0, 0, 4] = 0
    store = Store(str(tmp_path))
    volume = masked_volume(store, np.zeros(shape, np.uint8), data, block=(4, 4, 12))
    output = Output(store, "runs/r/v", volume)
    values = masked_affinities(labels, data != 0, DIRECT)
    values[2, 0, 0, 4:] = 0  # on the right all is weak
    give_prediction(output, values)
    task = Affinities(postprocess=Watershed(weak_voxels="grow"), offsets=DIRECT)
    make_fragments(task, output, 8, None, Options())
    make_lut(task, output, PARAMETERS)
    make_segmentation(task, output, None, Options())
    got = read(output, "segmentation")[0, 0]
    assert got[4] == 0
    assert len(set(got[:4].tolist())) == len(set(got[5:].tolist())) == 1
    assert got[0] != got[5] != 0


def test_classes_outside_are_background(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shape = (8, 8, 16)
    data = np.zeros(shape, bool)
    data[:5, 1:, :7] = True
    store = Store(str(tmp_path))
    volume = masked_volume(store, np.zeros(shape, np.uint8), data)
    output = Output(store, "runs/r/v", volume)
    values = random.integers(1, 255, (3, *shape)).astype(np.uint8)
    give_prediction(output, values)
    task = OneHot(classes={"a": [1], "b": [2]})
    make_fragments(task, output, 8, None, Options())
    make_lut(task, output, {})
    make_segmentation(task, output, None, Options())
    np.testing.assert_array_equal(read(output, "segmentation"), np.where(data, values.argmax(0), 0))


def test_predictions_are_those_of_the_whole_where_both_voxels_are_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (11, 31, 26)
    factor = (2, 3, 1)
    random = np.random.default_rng(4)
    data = (random_labels(random, (6, 11, 26), range(2), (3, 4, 9))).astype(np.uint16)
    inside = upsampled(data, factor, shape)
    expected = whole_volume("anisotropic", shape).copy()
    for channel, offset in zip(expected, PREDICTED, strict=True):
        there = np.ones(shape, bool)  # beyond the volume there is no border
        moved = tuple(slice(o, None) for o in offset)
        there[tuple(slice(0, n - o) for n, o in zip(shape, offset, strict=True))] = inside[moved]
        channel[~(inside & there)] = 0
    volume = masked_volume(
        Store(str(tmp_path)), image(shape), data, factor=factor, block=(8, 12, 8)
    )
    boxes: list[Box] = []
    predict_box = Predict.predict_box
    monkeypatch.setattr(
        Predict, "predict_box", lambda s, box: boxes.append(box) or predict_box(s, box)
    )
    run = run_on(volume.store, "anisotropic", at_once=(4, 12, 8))
    output = Output(volume.store, "runs/r/v", volume)
    Predict(output, run, 7).prepare()
    outside = volume.outside()
    assert 0 < len(outside) < len(volume.grid)
    keys = [key for key in volume.grid if key not in outside]
    predict(run, output, 7, None, Options())
    got = read(output, "prediction")
    assert np.abs(got - expected).max() <= 1e-5
    assert all(inside[box.slices].any() for box in boxes)  # no sub-block outside was computed
    assert {k for k, r in Predict(output, run, 7).records.read_all().items()} == set(keys)


def test_whole_volume_prediction_is_not_changed_by_rois_that_hold_it_all(tmp_path: Path) -> None:
    shape = (8, 8, 16)
    rois = ["0:8, :, 0:10", "0:8, :, 10:16", "0:8, 0:8, 0:16"]
    volume = masked_volume(Store(str(tmp_path)), image(shape), None, rois=rois)
    got = predicted(Output(volume.store, "runs/r/v", volume), run_on(volume.store, "isotropic"))
    assert_equals_whole(got, whole_volume("isotropic", shape))
