"""What lies outside the mask costs nothing and is background, blockwise as in the whole."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import give_prediction, ideal_affinities, ideal_segments, random_labels, read
from test_exact_prediction import OFFSETS as PREDICTED
from test_exact_prediction import assert_equals_whole, image, predicted, run_on, whole_volume
from tiny_run import VOLUME, opened

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.errors import NotReady, SegError
from seg_core.fragments import make_fragments
from seg_core.geometry import Box, Triple, triple
from seg_core.lut import make_lut, read_table
from seg_core.postprocess.mutex import MutexWatershed
from seg_core.postprocess.postprocess import Joined, Offset
from seg_core.postprocess.watershed import Watershed
from seg_core.predict import Predict, predict
from seg_core.report import make_report
from seg_core.run import add_run
from seg_core.segment import (
    fragment_volume,
    lut_of_volume,
    output_of,
    predict_volume,
    segment_blocks,
    states_of,
    unfinished,
)
from seg_core.segmentation import make_segmentation
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.mask import INSIDE, OUTSIDE
from seg_core.volumes.ome_zarr import ZarrArray, create

DIRECT: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
PARAMETERS = {"threshold": 0.5, "size_penalty": 0.0, "repulsion": 0.0, "min_size": 0.0}
SIZE = (40.0, 8.0, 8.0)


def write_array(
    store: Store, path: str, data: NDArray[Any], size: tuple[float, float, float] = SIZE
) -> None:
    store.remove(path)
    box, chunk = Box.of_shape(data.shape), triple([min(4, n) for n in data.shape])
    array = ZarrArray(store.path(path), box, None, data.dtype.name, size, chunk)
    create(array).write(box, data)


def masked_volume(
    store: Store,
    raw: NDArray[Any],
    mask: NDArray[Any] | None,
    *,
    factor: Triple = (1, 1, 1),
    block: Triple = (8, 8, 8),
    rois: list[str] | None = None,
) -> Volume:
    write_array(store, "volumes/v/raw.zarr", raw)
    text = f"raw: raw.zarr\nblock: {list(block)}\nchunk: [4, 4, 4]\n"
    if mask is not None:
        size = (SIZE[0] * factor[0], SIZE[1] * factor[1], SIZE[2] * factor[2])
        write_array(store, "volumes/v/mask.zarr", mask, size)
        text += "mask: mask.zarr\n"
    text += f"rois: {rois}\n" if rois else ""
    return add_volume(store, "v", text.encode(), "v.yaml")


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


# A mask that changes


def mask_phantom(store: Store, mask: NDArray[Any] | None) -> None:
    text = VOLUME
    if mask is not None:
        write_array(store, "volumes/phantom/mask.zarr", mask, (10.0, 10.0, 10.0))
        text += "mask: mask.zarr\n"
    add_volume(store, "phantom", text.encode(), "phantom.yaml")


def bring_up(store: Store) -> dict[str, list[str]]:
    """Make what is due, and nothing else; what each step made."""
    run, volume = opened(store)
    due = unfinished(run, volume)
    made = {
        "prediction": predict_volume(run, volume, due.blocks["prediction"], Options()).made,
        "fragments": fragment_volume(run, volume, due.blocks["fragments"], Options()).made,
    }
    if "lut" in due.whole:
        lut_of_volume(run, volume)
    keys = due.blocks["segmentation"]
    made["segmentation"] = segment_blocks(run, volume, keys, Options()).made
    assert unfinished(run, volume).whole in ([], ["report"])
    return made


def arrays(store: Store) -> dict[str, NDArray[Any]]:
    output = output_of(*opened(store))
    return {name: read(output, name) for name in ("prediction", "fragments", "segmentation")}


WHOLE = (120, 48, 48)
OUT = "z0002y0000x0000"  # its affinities are read by none; those of its lower neighbour reach it
REACH_INTO_IT = ["z0001y0000x0000", OUT]


def test_a_mask_around_everything_changes_nothing(store: Store) -> None:
    mask_phantom(store, np.ones(WHOLE, bool))
    assert bring_up(store) == {"prediction": [], "fragments": [], "segmentation": []}


@pytest.mark.slow
def test_what_a_mask_touches_is_made_again_and_no_more(store: Store) -> None:
    before = arrays(store)
    out = opened(store)[1].grid.box(OUT).slices
    mask = np.ones(WHOLE, np.uint8)
    mask[out] = 0
    mask_phantom(store, mask)
    states = states_of(*opened(store))
    assert {k: s.state for k, s in states["prediction"].items() if s.state != "done"} == (
        dict.fromkeys(REACH_INTO_IT, "stale")
    )
    assert states["segmentation"][OUT].reason == "outside the mask now, and not emptied yet"
    with pytest.raises(NotReady, match=OUT):
        lut_of_volume(*opened(store))
    made = bring_up(store)
    assert (made["prediction"], made["fragments"]) == (REACH_INTO_IT, REACH_INTO_IT)
    assert OUT in made["segmentation"]
    now = arrays(store)
    for name, array in now.items():
        assert not array[(..., *out)].any(), name
        assert before[name][(..., *out)].any(), name
    for step, of in states_of(*opened(store)).items():
        assert {s.state for s in of.values()} == {"done", "skipped"}, step
        assert (of[OUT].state, of[OUT].reason) == ("skipped", "outside the mask")
    table = read_table(output_of(*opened(store)))
    assert table
    assert OUT not in table.slices
    assert make_report(*opened(store))["segments"]["background_voxels"] >= 24**3
    # and as if it had never been otherwise
    fresh = Store(f"{store.uri}/fresh")
    shutil.copytree(f"{store.uri}/volumes", f"{fresh.uri}/volumes")
    shutil.copytree(f"{store.uri}/runs", f"{fresh.uri}/runs")
    fresh.remove("runs/tiny/phantom")
    every = set(opened(store)[1].grid)
    assert set(bring_up(fresh)["segmentation"]) == every - {OUT}
    again = arrays(fresh)
    for name in ("prediction", "fragments"):
        np.testing.assert_array_equal(again[name], now[name])
    both = np.stack([again["segmentation"].ravel(), now["segmentation"].ravel()])
    pairs = np.unique(both, axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
    # the mask opens again: the block is missing, and comes back as it was
    mask_phantom(store, None)
    states = states_of(*opened(store))
    assert states["prediction"][OUT].state == "missing"
    assert bring_up(store)["prediction"] == REACH_INTO_IT
    for name in ("prediction", "fragments"):
        np.testing.assert_array_equal(arrays(store)[name], before[name])


def test_a_voxel_of_the_mask_concerns_those_who_see_it(store: Store) -> None:
    mask = np.ones(WHOLE, np.uint8)
    mask[36, 12, 12] = 0  # in the middle of a block
    mask_phantom(store, mask)
    made = bring_up(store)
    assert made["prediction"] == made["fragments"] == ["z0001y0000x0000"]
    assert arrays(store)["segmentation"][36, 12, 12] == 0
    touched = Path(store.path("volumes/phantom/mask.zarr/0"))
    for path in touched.rglob("*"):
        path.touch()
    assert not any(bring_up(store).values())


def test_a_volume_of_which_a_part_is_inside_is_validated_on_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shape = (16, 16, 16)
    labels = np.ones(shape, np.uint8)
    labels[:, 8:] = 2
    write_array(store, "volumes/v/labels.zarr", labels)
    mask = np.zeros(shape, np.uint8)
    mask[:, :, :5] = 1
    masked_volume(store, image(shape), mask)
    text = store.read_bytes("volumes/v.yaml") + b"labels: labels.zarr\n"
    add_volume(store, "v", text, "v.yaml")
    config = b"""
datasplit: {train: [{volume: v, roi: '0:8, :, :'}], validate: [{volume: v, roi: '8:16, :, :'}]}
architecture:
  {kind: unet, features: [4, 4, 4], kernels: [[3, 3, 3], [1, 1, 1], [1, 1, 1]],
   strides: [[1, 2, 2], [1, 1, 1]]}
trainer: {iterations: 2, crop: [8, 8, 8]}
compute: {device: cpu, threads: 1}
"""
    run = add_run(store, "r", config, "r.yaml")
    train(run)
    assert validate(run)[1] == 1
    assert validate(run)[1] == 0
    mask[:, :, 5] = 1
    write_array(store, "volumes/v/mask.zarr", mask)
    assert validate(run)[1] == 1


# What is no mask


@pytest.mark.parametrize(
    ("mask", "size", "more", "words"),
    [
        (np.ones((8, 8, 9)), SIZE, "", "expected the same voxels, or coarser ones by a whole"),
        (np.ones((4, 4, 8)), (80.0, 16.0, 9.0), "", "raw data (8, 8, 16)"),
        (np.ones((4, 4, 4), np.float32), (80.0, 16.0, 32.0), "", "integers or booleans"),
        (np.zeros((8, 8, 16)), SIZE, "", "nothing of 0:8, 0:8, 0:16, its ROI, is inside"),
        (None, SIZE, "rois: ['0:9, :, :']", "reaches outside the volume, which is 0:8"),
        (None, SIZE, "rois: []", "at least 1 item"),
        (None, SIZE, "rois: ['6:8, :, :']\nroi: '0:4, :, :'", "nothing of 0:4"),
        (None, SIZE, "mask: nowhere.zarr", "no OME-Zarr is there"),
    ],
)
def test_what_is_no_mask_is_refused(
    mask: NDArray[Any] | None,
    size: tuple[float, float, float],
    more: str,
    words: str,
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    write_array(store, "volumes/v/raw.zarr", np.zeros((8, 8, 16), np.uint8))
    if mask is not None:
        data = mask if mask.dtype == np.float32 else mask.astype(np.uint8)
        write_array(store, "volumes/v/mask.zarr", data, size)
        more = "mask: mask.zarr"
    text = f"raw: raw.zarr\nblock: [8, 8, 8]\nchunk: [4, 4, 4]\n{more}\n"
    with pytest.raises(SegError) as refused:
        add_volume(store, "v", text.encode(), "v.yaml")
    assert words in str(refused.value)
    assert not store.exists("volumes/v.yaml")


def test_whole_volume_prediction_is_not_changed_by_rois_that_hold_it_all(tmp_path: Path) -> None:
    shape = (8, 8, 16)
    rois = ["0:8, :, 0:10", "0:8, :, 10:16", "0:8, 0:8, 0:16"]
    volume = masked_volume(Store(str(tmp_path)), image(shape), None, rois=rois)
    got = predicted(Output(volume.store, "runs/r/v", volume), run_on(volume.store, "isotropic"))
    assert_equals_whole(got, whole_volume("isotropic", shape))
