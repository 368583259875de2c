"""Ctrl-C and SIGKILL, then the same command again; and the same command twice at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_core.blockwise.records import Records
from seg_core.phantom import write_phantom
from seg_core.run import add_run
from seg_core.store import Store
from seg_core.volumes.declared import add_volume

pytestmark = pytest.mark.slow

VOLUME = "raw: raw.zarr\nlabels: labels.zarr\nblock: [24, 96, 96]\nchunk: [6, 6, 6]\n"
RUN = """
datasplit:
  train: [{volume: phantom, roi: '0:36, :, :'}]
  validate: [{volume: phantom, roi: '36:48, :, :'}]
task: {kind: affinities, postprocess: {kind: watershed, sub_block: [6, 6, 6]}}
architecture:
  kind: unet
  features: [16, 16, 16]
  kernels: [[3, 3, 3], [1, 1, 1], [1, 1, 1]]
  strides: [[2, 2, 2], [1, 1, 1]]
trainer: {iterations: 80, crop: [24, 24, 24], checkpoint_interval: 20}
compute: {device: cpu, threads: 1, predict: [12, 12, 12]}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything was made without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    prepare(folder)
    for step in (["train", "r"], ["validate", "r"], ["predict", "r", "phantom"]):
        seg(folder, *step)
    seg(folder, "segment", "r", "phantom")
    return folder


def prepare(folder: Path) -> Store:
    store = Store(str(folder))
    write_phantom(f"{folder}/volumes/phantom", (48, 96, 96), seed=3)
    add_volume(store, "phantom", VOLUME.encode(), "phantom.yaml")
    add_run(store, "r", RUN.encode(), "r.yaml")
    return store


def start(folder: Path, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from seg_core.cli import main; main()", *command, "--json"],
        env={**os.environ, "SEG_STORE": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores SIGINT, and what it starts inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def seg(folder: Path, *command: str) -> dict[str, object]:
    process = start(folder, *command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return dict(json.loads(out))


def stop_when(
    process: "subprocess.Popen[str]", ready: Callable[[], bool], how: signal.Signals
) -> None:
    until_ready(process, ready)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0


def until_ready(process: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "the command ended before it could be stopped"
        assert time.monotonic() < until
        time.sleep(0.001)


def pause(process: "subprocess.Popen[str]", seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def copy_of(finished: Path, folder: Path, *without: str) -> Path:
    """A copy of the finished store, as it was before some of its steps."""
    subprocess.run(["cp", "-a", f"{finished}/.", folder], check=True)
    for path in without:
        Store(str(folder)).remove(path)
    return folder


def voxels(folder: Path, name: str) -> dict[str, bytes]:
    root = folder / "runs/r/phantom" / f"{name}.zarr"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_training_goes_on_to_the_same_weights(
    finished: Path, tmp_path: Path, how: signal.Signals
) -> None:
    copy_of(finished, tmp_path, "runs/r")
    weights = tmp_path / "runs/r/checkpoints/20.safetensors"
    state = weights.with_name("state.safetensors")
    stop_when(start(tmp_path, "train", "r"), lambda: weights.exists() and state.exists(), how)
    assert seg(tmp_path, "train", "r")["made"] <= 60
    for name in ("20", "40", "60", "80"):
        path = f"runs/r/checkpoints/{name}.safetensors"
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes()
    assert seg(tmp_path, "train", "r")["made"] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("step", ["prediction", "fragments"])
def test_blocks_and_sub_blocks_that_are_done_are_not_done_again(
    finished: Path, tmp_path: Path, step: str, how: signal.Signals
) -> None:
    made = ["fragments", "lut", "edges", "segmentation", "blocks/fragments", "blocks/segmentation"]
    made += ["prediction", "blocks/prediction"] if step == "prediction" else []
    names = [f"{m}.zarr" if m in ("fragments", "segmentation", "prediction") else m for m in made]
    copy_of(finished, tmp_path, *(f"runs/r/phantom/{name}" for name in names))
    command = ["predict" if step == "prediction" else "segment", "r", "phantom"]
    folder = tmp_path / f"runs/r/phantom/blocks/{step}"
    first, second = folder / "z0000y0000x0000.json", folder / "z0001y0000x0000.parts"
    voxels_of_second = {
        "prediction": tmp_path / "runs/r/phantom/prediction.zarr/0/c/0/4",
        "fragments": tmp_path / "runs/r/phantom/scratch/z0001y0000x0000.zarr/0/c",
    }
    process = start(tmp_path, *command)
    until_ready(process, voxels_of_second[step].exists)
    # sub-blocks are noted every second, and a fast machine makes the block in less; a paused
    # process's clock goes on, so what it makes next is noted on any machine
    pause(process, 1.0)
    stop_when(process, lambda: any(second.glob("*.json")), how)
    before = first.stat().st_mtime_ns

    seg(tmp_path, *command)

    assert first.stat().st_mtime_ns == before
    pieces = 128 if step == "prediction" else 1024
    record = Records(Store(str(tmp_path)), f"runs/r/phantom/blocks/{step}").read("z0001y0000x0000")
    assert 0 < record.figures["sub_blocks_resumed"] < record.figures["sub_blocks"] == pieces
    name = "prediction" if step == "prediction" else "segmentation"
    assert voxels(tmp_path, name) == voxels(finished, name)


def test_asked_a_second_time_no_block_is_computed(finished: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    assert seg(finished, "train", "r")["made"] == 0
    assert seg(finished, "validate", "r")["made"] == 0
    assert seg(finished, "predict", "r", "phantom")["made"] == []
    segment = seg(finished, "segment", "r", "phantom")
    assert [segment[s]["made"] for s in ("fragments", "lut", "segmentation")] == [[], False, []]
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == files


def test_two_of_the_same_command_end_as_one_or_one_refuses(finished: Path, tmp_path: Path) -> None:
    copy_of(finished, tmp_path, "runs/r/phantom")
    both = [start(tmp_path, "predict", "r", "phantom") for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes
    for code, (_, err) in zip(codes, ends, strict=True):
        assert code == 0 or "is at it; wait for its end, or stop it first" in err
    assert voxels(tmp_path, "prediction") == voxels(finished, "prediction")
    assert not list(tmp_path.rglob("*.lock"))


def test_workers_make_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    copy_of(finished, tmp_path, "runs/r/phantom")
    made = seg(tmp_path, "predict", "r", "phantom", "--workers", "2")
    assert made["made"] == ["z0000y0000x0000", "z0001y0000x0000"]
    seg(tmp_path, "segment", "r", "phantom", "--workers", "2")
    for name in ("prediction", "segmentation"):
        assert voxels(tmp_path, name) == voxels(finished, name)
