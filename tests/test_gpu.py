"""On a GPU: the same bytes again, after an interruption too, and by pieces at once."""

import os
import signal

import numpy as np
import pytest
import torch
from small_training import UNET, make_run, same, small_store, trained, volume
from stores import chunks_of, read

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.predict import Predict, predict
from seg_core.run import Run
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.checkpoint import checkpoint_path, load_tensors
from seg_core.training.device import crop_processes, open_device
from seg_core.volumes.declared import load_volume

pytestmark = pytest.mark.gpu
COMPUTE = {"device": "auto", "threads": 1, "predict": [8, 8, 8]}
CHANGED = {
    "architecture": UNET,
    "trainer": {"iterations": 40, "crop": [16, 16, 16], "checkpoint_interval": 20},
    "compute": COMPUTE,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = small_store(tmp_path_factory.mktemp("store"))
    noise = np.random.default_rng(3).integers(0, 200, (48, 48, 48)).astype(np.uint8)
    volume(store, noise, noise, name="noise")
    return store


def test_a_gpu_is_used(store: Store) -> None:
    device = open_device(make_run(store, "device", compute=COMPUTE).config.compute)
    assert device.type == "cuda"
    assert crop_processes(device, 2**20) >= 1


def test_training_again_gives_the_same_weights(store: Store) -> None:
    first = trained(store, "first", **CHANGED)[1]
    assert same(first, trained(store, "again", **CHANGED)[1])


def test_training_goes_on_exactly_after_an_interruption(store: Store) -> None:
    whole = trained(store, "whole", **CHANGED)[1]
    run = make_run(store, "stopped", datasplit={"train": [{"volume": "p"}]}, **CHANGED)

    def stop(row: dict[str, float]) -> None:
        if row["iteration"] == 27:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(run, on_log=stop)
    assert train(run) == 13
    assert same(whole, load_tensors(run, checkpoint_path(run, 40))[0])


def test_pieces_at_once_are_those_one_by_one_and_those_of_a_cpu(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(store, "predicts", **CHANGED)[0]
    several, two = predicted(run, "several"), predicted(run, "two", workers=2)
    monkeypatch.setattr(Predict, "at_once", 1)
    single = predicted(run, "single")
    assert chunks_of(several, "prediction") == chunks_of(single, "prediction")
    assert chunks_of(two, "prediction") == chunks_of(single, "prediction")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = read(predicted(run, "cpu"), "prediction").astype(int)
    assert np.abs(on_cpu - read(single, "prediction")).max() <= 2  # of 255


def predicted(run: Run, folder: str, workers: int = 1) -> Output:
    volume = load_volume(run.store, "noise")
    output = Output(run.store, f"runs/{run.name}/{folder}", volume)
    outcome = predict(run, output, 40, None, Options(workers))
    assert len(outcome.made) == len(list(output.grid)) > 1
    return output
