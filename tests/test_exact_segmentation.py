"""Segmentation by block of ideal affinities is what touches in the ground truth, exactly."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import (
    assert_same_partition,
    chunks_of,
    give_prediction,
    ideal_affinities,
    ideal_segments,
    output_for,
    random_labels,
    read,
)

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record, Records
from seg_core.fragments import Fragments, make_fragments
from seg_core.geometry import Box, Triple, triple
from seg_core.lut import make_lut
from seg_core.postprocess.mutex import MutexWatershed
from seg_core.postprocess.postprocess import Joined, Offset
from seg_core.postprocess.watershed import Watershed
from seg_core.segmentation import make_segmentation
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.volumes.ome_zarr import ZarrArray, create

DIRECT: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
PARAMETERS = {"threshold": 0.5, "size_penalty": 0.0, "repulsion": 0.0, "min_size": 0.0}


def long(distance: int) -> list[Offset]:
    return [triple([distance * n for n in offset]) for offset in DIRECT]


OFFSETS = [DIRECT, DIRECT + long(3), DIRECT + long(9), [*DIRECT, (0, 0, 2), (0, 7, 0), (0, 0, 4)]]


@dataclass(frozen=True)
class Cut:
    """A volume, and how it is cut."""

    shape: Triple
    roi: Box
    block: Triple
    chunk: Triple
    sub_block: Triple | None


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    axes = []
    for _ in range(3):
        chunk = draw(st.integers(2, 6))
        length = draw(st.integers(1, 15))
        before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        # no more than three blocks an axis, so that a test stays small
        block = chunk * draw(st.integers(-(-length // (3 * chunk)), 4))
        sub_block = chunk * draw(st.integers(1, 3))
        axes.append((before + length + after, before, before + length, block, chunk, sub_block))
    shape, begin, end, block, chunk, sub_block = map(triple, zip(*axes, strict=True))
    return Cut(shape, Box(begin, end), block, chunk, draw(st.sampled_from([None, sub_block])))


grains = st.sampled_from([(1, 1, 1), (1, 1, 1), (1, 20, 20), (20, 1, 3), (2, 1, 5), (4, 3, 3)])


def segment(
    output: Output, task: Affinities | OneHot, options: Options, repulsion: float = 0.0
) -> NDArray[np.uint64]:
    make_fragments(task, output, 8, None, options)
    make_lut(task, output, PARAMETERS | {"repulsion": repulsion})
    make_segmentation(task, output, None, options)
    return read(output, "segmentation")


def assert_exact(cut: Cut, labels: NDArray[Any], task: Affinities, repulsion: float) -> None:
    with TemporaryDirectory() as folder:
        output = output_for(Path(folder), cut.shape, block=cut.block, chunk=cut.chunk, roi=cut.roi)
        give_prediction(output, ideal_affinities(labels, task.offsets, cut.roi))
        got = segment(output, task, Options(), repulsion)
        assert_same_partition(got, ideal_segments(labels[cut.roi.slices]))
        left = output.store.fs.find(output.store.path(output.path("scratch")))
        assert left == []


@pytest.mark.parametrize("method", [MutexWatershed, Watershed])
@given(
    cut=cuts(),
    offsets=st.sampled_from(OFFSETS),
    grain=grains,
    labels=st.sampled_from([range(0, 3), range(1, 3), range(1, 6)]),
    repulsion=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_segments_are_exact(
    method: type[Joined],
    cut: Cut,
    offsets: list[Offset],
    grain: Triple,
    labels: range,
    repulsion: float,
    seed: int,
) -> None:
    truth = random_labels(np.random.default_rng(seed), cut.shape, labels, grain)
    task = Affinities(
        postprocess=method(weak_voxels="own", sub_block=cut.sub_block), offsets=offsets
    )
    assert_exact(cut, truth, task, repulsion)


@pytest.mark.parametrize("method", [MutexWatershed, Watershed])
@given(cut=cuts(), offsets=st.sampled_from(OFFSETS), seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_thick_segments_are_exact(
    method: type[Joined], cut: Cut, offsets: list[Offset], seed: int
) -> None:
    random = np.random.default_rng(seed)
    grain = triple(random.integers(5, 9, 3))
    truth = random_labels(random, cut.shape, range(1, 5), grain)
    task = Affinities(
        postprocess=method(weak_voxels="own", sub_block=cut.sub_block), offsets=offsets
    )
    assert_exact(cut, truth, task, float(method is MutexWatershed))


def steps_files(output: Output) -> dict[str, dict[str, bytes]]:
    table = Path(output.store.path(output.path("lut")))
    slices = {path.name: path.read_bytes() for path in table.glob("*.npy")}
    return {name: chunks_of(output, name) for name in ("fragments", "segmentation")} | {
        "lut": slices
    }


def one_after_the_other(output: Output, task: Affinities, seed: int | None = None) -> None:
    """All steps, blocks in any order, each by a call of its own."""
    keys = list(output.grid)
    random = np.random.default_rng(seed)
    for key in random.permutation(keys):
        make_fragments(task, output, 8, [str(key)], Options())
    make_lut(task, output, PARAMETERS)
    for key in random.permutation(keys):
        make_segmentation(task, output, [str(key)], Options())


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 4])
def test_workers_and_the_order_of_blocks_leave_no_trace(blocks: int, tmp_path: Path) -> None:
    shape, block = (12, 12, 10 * blocks), (12, 12, 10)
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (6, *shape)).astype(np.uint8)
    task = Affinities(
        postprocess=Watershed(sub_block=(6, 6, 5), seed_distance=2), offsets=DIRECT + long(3)
    )
    files = []
    for name in ("one", "two", "any order"):
        output = output_for(tmp_path / name, shape, block=block, chunk=(6, 6, 5))
        give_prediction(output, noise)
        if name == "any order":
            one_after_the_other(output, task, 1)
        else:
            segment(output, task, Options(workers=2 if name == "two" else 1))
        files.append(steps_files(output))
    assert len(files[0]["segmentation"]) > 2
    assert files[0] == files[1]
    assert files[0] == files[2]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@given(cut=cuts(), seed=st.integers(0, 1000))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_classes_are_the_most_probable_and_never_renumbered(
    dtype: str, cut: Cut, seed: int
) -> None:
    task = OneHot(classes={"a": [1], "b": [2], "c": [3]})
    random = np.random.default_rng(seed)
    # some classes are not there at all, in some blocks or in all of them
    values = random.integers(0, 256, (4, *cut.roi.shape)) * random.integers(0, 2, (4, 1, 1, 1))
    scaled = values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(np.float32)
    with TemporaryDirectory() as folder:
        output = output_for(Path(folder), cut.shape, block=cut.block, chunk=cut.chunk, roi=cut.roi)
        give_prediction(output, scaled)
        np.testing.assert_array_equal(segment(output, task, Options()), values.argmax(0))
        give_prediction(output, scaled[::-1])
        got = segment(output, task, Options())
        np.testing.assert_array_equal(got, values[::-1].argmax(0))


def test_an_end_between_the_last_piece_and_the_record_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, sub_block = (8, 8, 16), (4, 4, 4)
    truth = random_labels(np.random.default_rng(2), shape, range(1, 6), (3, 3, 3))
    task = Affinities(postprocess=Watershed(weak_voxels="own", sub_block=sub_block), offsets=DIRECT)
    output = output_for(tmp_path, shape, block=(8, 8, 8), chunk=sub_block)
    give_prediction(output, ideal_affinities(truth, DIRECT))
    label, write = Watershed.label, Records.write
    labelled: list[int] = []

    def label_some(self: Watershed, *given: Any) -> NDArray[np.uint64]:
        if len(labelled) == 5:
            raise KeyboardInterrupt
        labelled.append(1)
        return label(self, *given)

    def write_no_end(self: Records, key: str, record: Record) -> None:
        if record.state == "done":
            raise KeyboardInterrupt
        write(self, key, record)

    for owner, name, change in ((Watershed, "label", label_some), (Records, "write", write_no_end)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, change)
            make_fragments(task, output, 8, None, Options())
    got = segment(output, task, Options())
    assert_same_partition(got, ideal_segments(truth))
    record = Fragments(output, task, 8).records.read("z0000y0000x0000")
    assert record.figures["sub_blocks_resumed"] == 5
    assert record.tries == 0  # an end that was asked for is no failure


def test_a_region_that_grows_is_segmented_again(tmp_path: Path) -> None:
    shape = (4, 8, 24)
    truth = random_labels(np.random.default_rng(2), shape, range(1, 6), (3, 3, 3))
    task = Affinities(postprocess=Watershed(weak_voxels="own"), offsets=DIRECT)
    for end in (8, 16, 24):
        roi = Box((0, 0, 0), (4, 8, end))
        output = output_for(tmp_path, shape, block=(4, 8, 8), chunk=(4, 4, 4), roi=roi)
        give_prediction(output, ideal_affinities(truth, DIRECT, roi))
        got = segment(output, task, Options())
        assert_same_partition(got, ideal_segments(truth[roi.slices]))


def test_processes_that_make_one_array_at_once_all_succeed(tmp_path: Path) -> None:
    for number in range(10):
        box, meet = Box.of_shape((4, 4, 4)), Barrier(4)

        def make(_: int, uri: str = f"{tmp_path}/{number}.zarr") -> ZarrArray:
            meet.wait()  # noqa: B023
            array = ZarrArray(uri, box, None, "uint8", (1.0, 1.0, 1.0), (4, 4, 4))  # noqa: B023
            return create(array, overwrite=True)

        with ThreadPoolExecutor(4) as pool:
            for array in pool.map(make, range(4)):
                assert not array.read().any()
