"""Prediction by block is that of the whole volume at once, computed here without the engine."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import DynUNet
from numpy.typing import NDArray
from stores import chunks_of, declare, output_for, read

from seg_core.architectures.receptive_field import find_halo
from seg_core.architectures.unet import UNet
from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.errors import BlocksFailed, SegError
from seg_core.geometry import Box, Triple, triple
from seg_core.predict import Predict, predict
from seg_core.run import Run, add_run
from seg_core.store import Store
from seg_core.training.checkpoint import checkpoint_path, save_tensors, weights_of

MEAN, STD = 110.0, 55.0
OFFSETS = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 5]]
# more than any of these networks sees, and a multiple of every stride
FAR = 32

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "isotropic": {
        "kind": "unet",
        "features": [4, 8, 8],
        "kernels": [[3, 3, 3], [3, 3, 3], [1, 1, 1]],
    },
    "anisotropic": {
        "kind": "unet",
        "features": [4, 8, 8],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 2, 2], [2, 2, 2]],
    },
}


class InstanceUNet(UNet):
    """The same with instance normalisation."""

    kind: Literal["test_exact_prediction:InstanceUNet"] = "test_exact_prediction:InstanceUNet"  # type: ignore[assignment]

    def build(self, in_channels: int, out_channels: int) -> torch.nn.Module:
        three, two = (3, 3, 3), (2, 2, 2)
        return DynUNet(3, in_channels, out_channels, [three] * 3, [(1, 1, 1), two, two], [two] * 2)


@cache
def network(architecture: str) -> torch.nn.Module:
    """Random weights, and statistics as training leaves them."""
    torch.manual_seed(3)
    built = UNet.model_validate(ARCHITECTURES[architecture]).build(1, len(OFFSETS))
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return built.eval()


@cache
def image(shape: Triple) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


@cache
def whole_volume(architecture: str, shape: Triple) -> NDArray[np.float32]:
    """The network applied once to all of the image and its mirror images around it."""
    pad = [(FAR, FAR + -n % 4) for n in shape]
    raw = np.pad(image(shape).astype(np.float32), pad, mode="reflect")
    with torch.inference_mode():
        scaled = torch.from_numpy((raw - MEAN) / STD)[None, None]
        values = torch.sigmoid(network(architecture)(scaled))[0].numpy()
    return values[(slice(None), *(slice(FAR, FAR + n) for n in shape))]


def run_on(
    store: Store,
    architecture: str,
    *,
    dtype: str = "float32",
    at_once: Triple | None = None,
) -> Run:
    """A run with a checkpoint of the network."""
    config = {
        "datasplit": {"train": [{"volume": "v"}], "validate": [{"volume": "v"}]},
        "task": {"kind": "affinities", "offsets": OFFSETS},
        "architecture": ARCHITECTURES[architecture],
        "prediction": {"dtype": dtype},
        "compute": {"device": "cpu", "threads": 1, "predict": at_once and list(at_once)},
    }
    run = add_run(store, "r", yaml.safe_dump(config).encode(), "r.yaml")
    provenance = {"channels": 1, "normalize": {"mean": MEAN, "std": STD}}
    save_tensors(run, checkpoint_path(run, 7), weights_of(network(architecture)), provenance)
    return run


def predicted(output: Output, run: Run, options: Options | None = None) -> NDArray[Any]:
    predict(run, output, 7, None, options or Options())
    records = Predict(output, run, 7).records.read_all()
    assert {key: record.state for key, record in records.items()} == dict.fromkeys(
        output.grid, "done"
    )
    return read(output, "prediction")


def assert_equals_whole(got: NDArray[Any], expected: NDArray[np.float32]) -> None:
    if got.dtype == np.uint8:
        assert np.abs(got - 255.0 * expected).max() <= 1
    else:
        assert got.dtype == np.float32
        assert got.min() > 0  # nothing is left unwritten: a sigmoid is never 0
        assert np.abs(got - expected).max() <= 1e-5


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Triple, Box, Triple, Triple, Triple | None]:
    """Shape of a volume; its ROI, block, chunk, and what is predicted at once."""
    axes = []
    shape = draw(st.sampled_from([(11, 31, 26), (20, 17, 29)]))
    for most, pieces in zip(shape, draw(st.permutations([1, 2, 3])), strict=True):
        chunk = draw(st.integers(3, 9))
        block = chunk * draw(st.integers(1, 3))
        at_once = chunk * draw(st.integers(1, 4))
        length = draw(st.integers(1, min(most, pieces * min(block, at_once))))
        begin = draw(st.sampled_from([0, most - length]) | st.integers(0, most - length))
        axes.append((begin, begin + length, block, chunk, at_once))
    begin, end, block, chunk, at_once = (triple(numbers) for numbers in zip(*axes, strict=True))
    return shape, Box(begin, end), block, chunk, draw(st.sampled_from([None, at_once]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(cut=cuts(), dtype=st.sampled_from(["float32", "float32", "uint8"]))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_blockwise_equals_whole_volume(
    architecture: str, cut: tuple[Triple, Box, Triple, Triple, Triple | None], dtype: str
) -> None:
    shape, roi, block, chunk, at_once = cut
    with TemporaryDirectory() as folder:
        store = Store(folder)
        volume = declare(store, image(shape), block=block, chunk=chunk, roi=roi)
        run = run_on(store, architecture, dtype=dtype, at_once=at_once)
        got = predicted(Output(store, "runs/r/v", volume), run)
    assert got.shape == (len(OFFSETS), *roi.shape)
    expected = whole_volume(architecture, shape)
    assert_equals_whole(got, expected[(slice(None), *roi.slices)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_flat_volume_equals_its_whole(architecture: str, tmp_path: Path) -> None:
    shape = (1, 30, 21)
    store = Store(str(tmp_path))
    volume = declare(store, image(shape), block=(1, 16, 8), chunk=(1, 8, 8))
    run = run_on(store, architecture, at_once=(1, 8, 8))
    got = predicted(Output(store, "runs/r/v", volume), run)
    assert_equals_whole(got, whole_volume(architecture, shape))


def test_a_volume_thinner_than_the_chunk_equals_its_whole(tmp_path: Path) -> None:
    shape = (2, 3, 30)
    store = Store(str(tmp_path))
    volume = declare(store, image(shape), block=(8, 8, 16), chunk=(8, 8, 8))
    got = predicted(Output(store, "runs/r/v", volume), run_on(store, "isotropic"))
    assert_equals_whole(got, whole_volume("isotropic", shape))


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 2])
def test_two_workers_give_the_same_bytes_as_one(blocks: int, tmp_path: Path) -> None:
    files = []
    for workers in (1, 2):
        store = Store(str(tmp_path / str(workers)))
        roi = Box((0, 3, 0), (10, 19, 16 * blocks - 5))
        volume = declare(store, image((10, 20, 48)), block=(10, 16, 16), chunk=(5, 8, 8), roi=roi)
        output = Output(store, "runs/r/v", volume)
        seen: list[str] = []
        options = Options(workers, on_block=lambda key, _: seen.append(key))  # noqa: B023
        predicted(output, run_on(store, "isotropic", at_once=(5, 8, 8)), options)
        assert sorted(seen) == list(output.grid)
        assert len(seen) == blocks
        files.append(chunks_of(output, "prediction"))
    assert len(files[0]) > 2
    assert files[0] == files[1]


def test_pieces_made_at_once_are_those_made_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = output_on(tmp_path, (32, 16, 16))
    run = run_on(output.store, "isotropic", at_once=(8, 8, 8))
    whole = predicted(output, run)
    files = chunks_of(output, "prediction")
    predict_box, bad = Predict.predict_box, {Box((24, 8, 0), (32, 16, 8))}

    def some(stage: Predict, box: Box) -> torch.Tensor:
        if box in bad:
            raise OSError("no such chunk")
        return predict_box(stage, box)

    monkeypatch.setattr(Predict, "at_once", 3)
    monkeypatch.setattr(Predict, "predict_box", some)
    with pytest.raises(BlocksFailed, match="no such chunk") as failed:
        predict(run, output, 7, None, Options(force="again"))
    assert list(failed.value.failed) == list(output.grid)[1:]
    bad.clear()
    assert np.array_equal(predicted(output, run, Options(force="again")), whole)
    assert chunks_of(output, "prediction") == files
    record = Predict(output, run, 7).records.read(list(output.grid)[1])
    # the seventh failed, when at most two of those before it were still to end
    assert 6 <= record.figures["sub_blocks_resumed"] <= record.figures["sub_blocks"] - 1 == 7


def output_on(folder: Path, shape: Triple) -> Output:
    store = Store(str(folder))
    return Output(store, "runs/r/v", declare(store, image(shape), block=(16,) * 3, chunk=(8,) * 3))


def test_instance_normalisation_is_refused(tmp_path: Path) -> None:
    sentence = (
        "this network's output depends on all of its input (instance normalisation or global "
        "attention?), so blocks cannot be exact; use batch normalisation"
    )
    torch.manual_seed(0)
    built = InstanceUNet().build(1, len(OFFSETS))
    with pytest.raises(SegError) as refused:
        find_halo(built, 1, InstanceUNet().stride)
    assert str(refused.value) == sentence
    output = output_for(tmp_path, (8, 8, 8), block=(8, 8, 8), chunk=(8, 8, 8))
    config = {
        "datasplit": {"train": [{"volume": "v"}], "validate": [{"volume": "v"}]},
        "task": {"kind": "affinities", "offsets": OFFSETS},
        "architecture": {"kind": "test_exact_prediction:InstanceUNet"},
    }
    run = add_run(output.store, "r", yaml.safe_dump(config).encode(), "r.yaml")
    provenance = {"channels": 1, "normalize": {"mean": MEAN, "std": STD}}
    save_tensors(run, checkpoint_path(run, 7), weights_of(built), provenance)
    with pytest.raises(SegError, match="use batch normalisation"):
        predict(run, output, 7, None, Options())


def test_blocks_are_made_again_where_their_array_had_to_be(tmp_path: Path) -> None:
    shape = (8, 16, 24)
    store = Store(str(tmp_path))
    run = run_on(store, "anisotropic", at_once=(8, 8, 8))
    expected = whole_volume("anisotropic", shape)
    cuts = [(12, 4), (16, 4), (24, 4), (24, 8)]  # the ROI grows: in a block, by one; other chunks
    for end, chunk in cuts:
        roi = Box((0, 0, 0), (8, 8, end))
        volume = declare(store, image(shape), block=(8, 8, 8), chunk=(chunk,) * 3, roi=roi)
        got = predicted(Output(store, "runs/r/v", volume), run)
        assert_equals_whole(got, expected[(slice(None), *roi.slices)])
    output = Output(store, "runs/r/v", volume)
    again = predict(run, output, 7, None, Options())
    assert (again.made, again.passed) == ([], list(output.grid))


def test_an_empty_list_of_blocks_is_none_of_them(tmp_path: Path) -> None:
    output = output_for(tmp_path, (8, 8, 16), block=(8, 8, 8), chunk=(8, 8, 8))
    run = run_on(output.store, "anisotropic")
    outcome = predict(run, output, 7, [], Options())
    assert (outcome.made, outcome.passed) == ([], [])
    key = next(iter(output.grid))
    assert predict(run, output, 7, [key, key], Options()).made == [key]
