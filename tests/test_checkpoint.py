"""Checkpoints: what they hold, and what is said of damaged ones."""

from pathlib import Path

import pytest
import torch
from own_kinds import Plain
from safetensors.torch import save
from small_training import AS_IT_IS, UNET, make_run, same, small_store

from seg_core.architectures.unet import UNet
from seg_core.errors import NotReady, SegError
from seg_core.run import Run
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.checkpoint import (
    checkpoint_path,
    iterations,
    load_network,
    save_tensors,
    set_weights,
    weights_of,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("store"))


def test_a_checkpoint_holds_the_network(tmp_path: Path) -> None:
    run = make_run_without_data(tmp_path)
    network = UNet.model_validate(UNET).build(1, 6)
    image = torch.randn(1, 1, 8, 8, 8)
    network(image)  # statistics of the batch norm
    provenance = {"channels": 1, "made_from": "here", "normalize": AS_IT_IS}
    save_tensors(run, checkpoint_path(run, 20), weights_of(network), provenance)
    save_tensors(run, checkpoint_path(run, 3), weights_of(network), provenance)
    assert iterations(run) == [3, 20]
    loaded, said, digest = load_network(run, 20)
    assert said == provenance
    assert not loaded.training
    assert same(weights_of(loaded), weights_of(network))
    assert torch.equal(loaded(image), network.eval()(image))
    assert load_network(run, 3)[2] == digest
    next(network.parameters()).data.mul_(1 + 1e-6)
    save_tensors(run, checkpoint_path(run, 3), weights_of(network), provenance)
    assert load_network(run, 3)[2] != digest


def make_run_without_data(folder: Path) -> Run:
    return make_run(Store(str(folder)), architecture=UNET)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    run = make_run_without_data(tmp_path)
    assert iterations(run) == []
    with pytest.raises(NotReady, match="run r has no checkpoint 7; train it first"):
        load_network(run, 7)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "longer", "foreign", "no weights"])
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, damage: str) -> None:
    run, path = make_run_without_data(tmp_path), "runs/r/checkpoints/5.safetensors"
    save_tensors(run, path, {"a": torch.arange(9.0)}, {"channels": 1})
    good = run.store.read_bytes(path)
    content = {
        "empty": b"",
        "text": b"this is no checkpoint, however long it may be",
        "cut": good[:-4],
        "longer": good + b"1234",
        "foreign": save({"a": torch.arange(9.0)}),
        "no weights": b"\xff" * 8 + good[8:],
    }[damage]
    run.store.write_bytes(path, content)
    with pytest.raises(SegError) as refused:
        load_network(run, 5)
    assert str(refused.value) == (
        f"{tmp_path}/{path}: is damaged, or was not written by seg train; remove it, and give "
        "that command again"
    )


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    run = make_run_without_data(tmp_path)
    weights = weights_of(Plain().build(1, 6))
    save_tensors(run, checkpoint_path(run, 5), weights, {"channels": 1})
    with pytest.raises(SegError, match="of another architecture or task"):
        load_network(run, 5)
    other = Plain().build(1, 6)
    before = {name: tensor.clone() for name, tensor in weights_of(other).items()}
    with pytest.raises(SegError, match="of another architecture or task"):
        set_weights(other, weights_of(Plain().build(2, 6)))
    assert same(weights_of(other), before)


def test_a_damaged_state_is_named_not_passed_over(store: Store) -> None:
    run = make_run(store, "broken")
    store.write_bytes("runs/broken/checkpoints/state.safetensors", b"half of it")
    with pytest.raises(SegError, match=r"state\.safetensors: is damaged"):
        train(run)
    store.remove("runs/broken/checkpoints/state.safetensors")
    assert train(run) == 3
