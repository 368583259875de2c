"""Volumes of a few voxels, and runs that are trained on them in a moment."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from seg_core.geometry import Box
from seg_core.phantom import make_phantom
from seg_core.run import Run, add_run
from seg_core.source import open_source
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.checkpoint import checkpoint_path, iterations, load_tensors
from seg_core.training.crops import Crops
from seg_core.volumes.declared import add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

VOLUME = "raw: raw.zarr\nlabels: labels.zarr\nblock: [16, 16, 16]\nchunk: [8, 8, 8]\n"
AS_IT_IS = {"mean": 0.0, "std": 1.0}
KEYS = ("raw", "ids", "known")


def volume(store: Store, raw: NDArray[Any], labels: NDArray[Any], name: str = "v") -> None:
    for array, data in (("raw", raw), ("labels", labels)):
        uri, box = store.path(f"volumes/{name}/{array}.zarr"), Box.of_shape(data.shape)
        create(ZarrArray(uri, box, None, data.dtype.name, (8, 8, 8), (8, 8, 8))).write(box, data)
    add_volume(store, name, VOLUME.encode(), f"{name}.yaml")


def make_run(store: Store, name: str = "r", **changed: Any) -> Run:
    """A small run; what is given takes the place of a part of its file or completes it."""
    content: dict[str, Any] = {
        "datasplit": {"train": [{"volume": "v"}], "validate": [{"volume": "w"}]},
        "architecture": {"kind": "own_kinds:Plain"},
        "trainer": {"iterations": 3, "crop": [8, 8, 8], "warm_up": 1},
        "compute": {"device": "cpu", "threads": 1},
    }
    for part, value in changed.items():
        content[part] = content.get(part, {}) | value
    return add_run(store, name, yaml.safe_dump(content).encode(), f"{name}.yaml")


def small_store(folder: Path) -> Store:
    """The volume `v`, whose image is its labels, its negative `w`, and the phantom `p`."""
    store = Store(str(folder))
    coarse = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.uint8)
    labels = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    labels[10:14, 3:20, 8:20] = 0
    volume(store, labels, labels)
    volume(store, 255 - labels, labels, name="w")
    volume(store, *make_phantom((24, 40, 40), seed=2), name="p")
    return store


def crops_of(run: Run, normalize: dict[str, float] = AS_IT_IS) -> Crops:
    sources = [open_source(run, c) for c in run.config.datasplit.train]
    return Crops(run.config, sources, normalize)


def augmented(store: Store, *augment: dict[str, Any], **trainer: Any) -> Crops:
    return crops_of(make_run(store, "crops", trainer={"augment": list(augment)} | trainer))


def as_dict(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """One crop (z, y, x) by name."""
    raw, ids, known = batch
    assert raw.shape == (1, 1, *ids.shape[1:])
    return dict(zip(KEYS, (raw[0, 0], ids[0], known[0]), strict=True))


def assert_equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for key in KEYS:
        assert torch.equal(got[key], expected[key]), key


def trained(store: Store, name: str, **changed: Any) -> tuple[Run, dict[str, torch.Tensor]]:
    """A run on the phantom, trained, and its weights."""
    run = make_run(store, name, **({"datasplit": {"train": [{"volume": "p"}]}} | changed))
    train(run)
    return run, load_tensors(run, checkpoint_path(run, iterations(run)[-1]))[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


UNET = {
    "kind": "unet",
    "features": [16, 16, 16],
    "kernels": [[3, 3, 3], [3, 3, 3], [1, 1, 1]],
    "strides": [[2, 2, 2], [1, 1, 1]],
}
