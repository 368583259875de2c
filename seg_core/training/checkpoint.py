"""Weights and training state as safetensors: no code is run when a file is read."""

import json
from typing import TYPE_CHECKING, Any

from seg_core.errors import NotReady, SegError
from seg_core.fingerprint import content
from seg_core.run import Run

if TYPE_CHECKING:
    import torch
    from torch import nn


def checkpoint_path(run: Run, iteration: int) -> str:
    """Where the weights of an iteration lie, relative to the store."""
    return f"{run.folder}/checkpoints/{iteration}.safetensors"


def iterations(run: Run) -> list[int]:
    """Every iteration that has a checkpoint, sorted."""
    names = run.store.names(f"{run.folder}/checkpoints", ".safetensors")
    return sorted(int(name) for name in names if name.isdigit())


def save_tensors(
    run: Run, path: str, tensors: dict[str, "torch.Tensor"], provenance: dict[str, Any]
) -> None:
    """Write tensors and what made them."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    run.store.write_bytes(path, save(plain, {"seg": json.dumps(provenance, sort_keys=True)}))


def load_tensors(run: Run, path: str) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Tensors and what made them.

    Raises:
        SegError: there is no such file, or it is damaged.
    """
    from safetensors.torch import load

    raw = run.store.read_bytes(path)
    try:
        length = int.from_bytes(raw[:8], "little")
        provenance = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["seg"])
        return load(raw), provenance
    except Exception as error:
        raise SegError(
            f"{run.store.path(path)}: is damaged, or was not written by seg train; remove it, and "
            "give that command again"
        ) from error


def weights_of(network: "nn.Module") -> dict[str, "torch.Tensor"]:
    """Parameters and buffers, each once: some networks hold a layer under several names."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def set_weights(network: "nn.Module", tensors: dict[str, "torch.Tensor"]) -> None:
    """Put tensors into a network in place.

    Raises:
        SegError: names or shapes are not those of the network.
    """
    own = weights_of(network)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise SegError("the checkpoint holds the weights of another architecture or task")
    for name, tensor in tensors.items():
        own[name].data.copy_(tensor)


def load_network(run: Run, iteration: int) -> tuple["nn.Module", dict[str, Any], str]:
    """The network of a checkpoint in evaluation mode, its provenance, and its fingerprint.

    Raises:
        NotReady: the run has no such checkpoint.
    """
    path = checkpoint_path(run, iteration)
    if not run.store.exists(path):
        raise NotReady(f"run {run.name} has no checkpoint {iteration}; train it first")
    tensors, provenance = load_tensors(run, path)
    config = run.frozen
    network = config.architecture.build(provenance["channels"], len(config.task.channels))
    set_weights(network, tensors)
    return network.eval(), provenance, fingerprint_of(tensors)


def fingerprint_of(tensors: dict[str, "torch.Tensor"]) -> str:
    """A digest of all weights."""
    return content(*(tensors[name].numpy() for name in sorted(tensors)))
