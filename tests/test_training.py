"""Training: crops, their augmentation, the loop, checkpoints, and classes of the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save
from stores import (
    assert_same_partition,
    give_prediction,
    ideal_affinities,
    ideal_segments,
    output_for,
    read,
)
from torch import nn

from seg_core.architectures.architecture import Architecture
from seg_core.architectures.receptive_field import find_halo
from seg_core.architectures.unet import UNet
from seg_core.blockwise.engine import Options
from seg_core.datasplit import make_datasplit
from seg_core.errors import NotReady, SegError
from seg_core.evaluate.binary import binary_scores
from seg_core.fragments import make_fragments
from seg_core.geometry import Box, Triple
from seg_core.lut import make_lut
from seg_core.phantom import make_phantom
from seg_core.postprocess import AnyPostprocess
from seg_core.postprocess.argmax import Argmax
from seg_core.postprocess.postprocess import Joined
from seg_core.run import Run, add_run, load_run
from seg_core.segmentation import make_segmentation
from seg_core.source import open_source
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.task import Task
from seg_core.train import schedule, train, training_rows
from seg_core.training.augment import Augmentation
from seg_core.training.checkpoint import (
    checkpoint_path,
    iterations,
    load_network,
    load_tensors,
    save_tensors,
    set_weights,
    weights_of,
)
from seg_core.training.crops import Crops
from seg_core.validate import validate
from seg_core.volumes.declared import add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

VOLUME = "raw: raw.zarr\nlabels: labels.zarr\nblock: [16, 16, 16]\nchunk: [8, 8, 8]\n"
AS_IT_IS = {"mean": 0.0, "std": 1.0}
KEYS = ("raw", "ids", "known")


class Plain(Architecture):
    """Two convolutions."""

    kind: str = "test_training:Plain"
    width: int = 16

    @property
    def stride(self) -> Triple:
        return 1, 1, 1

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(in_channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(self.width, out_channels, 1),
        )


class Inside(Task):
    """What has a label, against what has none."""

    kind: str = "test_training:Inside"
    postprocess: AnyPostprocess = Argmax()

    @property
    def channels(self) -> list[str]:
        return ["outside", "inside"]

    @property
    def criterion(self) -> str:
        return "dice"

    def prepare(self, labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        return (labels > 0).astype(np.int32), np.ones(labels.shape, bool)

    def target(self, ids: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        target = torch.stack([ids == 0, ids > 0], 1).float()
        return target, known[:, None].float().expand_as(target)

    def loss(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"square": ((logits.sigmoid() - target).square() * weight).mean()}

    def activation(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def scores(
        self, segmentation: NDArray[Any], labels: NDArray[Any], voxel_size: Any
    ) -> dict[str, float]:
        return binary_scores(segmentation > 0, labels > 0, voxel_size)


class Brighter(Augmentation):
    """Every crop by the same."""

    kind: str = "test_training:Brighter"
    by: float

    def transforms(self) -> list[Any]:
        from monai.transforms import ShiftIntensityd

        return [ShiftIntensityd(["raw"], offset=self.by)]


class Voxels(Joined):
    """Every voxel is a fragment."""

    kind: str = "test_training:Voxels"

    def label(
        self,
        prediction: NDArray[np.uint8],
        offsets: Any,  # noqa: ARG002
        voxel_size: Any,  # noqa: ARG002
    ) -> NDArray[np.uint64]:
        shape = prediction.shape[1:]
        return np.arange(1, np.prod(shape) + 1, dtype=np.uint64).reshape(shape)


def volume(store: Store, raw: NDArray[Any], labels: NDArray[Any], name: str = "v") -> None:
    for array, data in (("raw", raw), ("labels", labels)):
        uri, box = store.path(f"volumes/{name}/{array}.zarr"), Box.of_shape(data.shape)
        create(ZarrArray(uri, box, None, data.dtype.name, (8, 8, 8), (8, 8, 8))).write(box, data)
    add_volume(store, name, VOLUME.encode(), f"{name}.yaml")


def make_run(store: Store, name: str = "r", **changed: Any) -> Run:
    """A small run; what is given takes the place of a part of its file or completes it."""
    content: dict[str, Any] = {
        "datasplit": {"train": [{"volume": "v"}], "validate": [{"volume": "w"}]},
        "architecture": {"kind": "test_training:Plain"},
        "trainer": {"iterations": 3, "crop": [8, 8, 8], "warm_up": 1},
        "compute": {"device": "cpu", "threads": 1},
    }
    for part, value in changed.items():
        content[part] = content.get(part, {}) | value
    return add_run(store, name, yaml.safe_dump(content).encode(), f"{name}.yaml")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The volume `v`, whose image is its labels, its negative `w`, and the phantom `p`."""
    store = Store(str(tmp_path_factory.mktemp("store")))
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


# Crops


def test_a_crop_depends_on_its_number_only(store: Store) -> None:
    run = make_run(store, "numbers", trainer={"batch_size": 2})
    first, second = crops_of(run), crops_of(run)
    forward = [first.batch(i) for i in range(4)]
    backward = [second.batch(i) for i in reversed(range(4))][::-1]
    prepared = list(second.batches(1, 4))
    assert len(prepared) == 3
    for got, again in zip(forward + forward[1:], backward + prepared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))
    assert list(second.batches(2, 2)) == []
    contents = {t[k].numpy().tobytes() for t in forward for k in range(2)}
    assert len(contents) == 8  # no two alike, neither of the numbers nor in a batch
    other = crops_of(make_run(store, "seeds", trainer={"batch_size": 2, "seed": 1}))
    assert not torch.equal(other.batch(0)[0], forward[0][0])


def test_a_batch_is_what_torch_takes(store: Store) -> None:
    for augment in ([], [{"kind": "mirror"}, {"kind": "rotate90"}, {"kind": "blur"}]):
        raw, ids, known = augmented(store, *augment, batch_size=2).batch(0)
        assert [type(t) for t in (raw, ids, known)] == [torch.Tensor] * 3
        assert raw.shape == (2, 1, 8, 8, 8)
        assert ids.shape == known.shape == (2, 8, 8, 8)
        assert (raw.dtype, ids.dtype, known.dtype) == (torch.float32, torch.int32, torch.bool)


def test_crops_are_parts_of_the_source(store: Store) -> None:
    crops, labels = augmented(store), store_labels(store)
    windows = np.lib.stride_tricks.sliding_window_view(labels, (8, 8, 8)).reshape(-1, 8**3)
    places = {window.tobytes() for window in windows}
    for number in range(6):
        crop = as_dict(crops.batch(number))
        assert crop["raw"].numpy().astype(np.uint8).tobytes() in places
        assert torch.equal(crop["known"], crop["raw"] > 0)


def store_labels(store: Store) -> NDArray[np.uint8]:
    return np.asarray(open_source(make_run(store, "labels"), source_of("v")).labels.read())


def source_of(name: str, **more: Any) -> Any:
    from seg_core.run import SourceConfig

    return SourceConfig(volume=name, **more)


def test_images_are_normalised(store: Store) -> None:
    run = make_run(store, "normal", datasplit={"train": [{"volume": "p"}]})
    found = make_datasplit(run)["normalize"]
    raw = open_source(run, source_of("p")).volume.raw.read().astype(float)
    assert found["mean"] == pytest.approx(raw.mean())
    assert found["std"] == pytest.approx(raw.std())
    plain = as_dict(augmented(store).batch(3))["raw"]
    run = make_run(store, "shifted", trainer={"augment": []})
    moved = as_dict(crops_of(run, {"mean": 100.0, "std": 50.0}).batch(3))["raw"]
    assert torch.allclose(moved, (plain - 100) / 50)


def test_images_that_hold_no_numbers_are_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    raw = np.ones((8, 8, 8), np.float32)
    raw[3, 3, 3] = np.nan
    volume(store, raw, np.ones((8, 8, 8), np.uint8))
    with pytest.raises(SegError, match="no finite numbers"):
        train(make_run(store, datasplit={"validate": [{"volume": "v"}]}))
    assert not store.exists("runs/r")


def test_a_source_thinner_than_the_crop_goes_on_as_its_mirror_image(store: Store) -> None:
    thin = {"train": [{"volume": "v", "roi": "9:14, 0:8, :"}]}
    for background in ("unknown", "known"):
        run = make_run(
            store,
            f"thin-{background}",
            datasplit=thin,
            task={"kind": "affinities", "background": background},
            trainer={"augment": []},
        )
        crop = as_dict(crops_of(run).batch(0))
        for beyond, inside in ((5, 3), (6, 2), (7, 1)):
            assert torch.equal(crop["raw"][beyond], crop["raw"][inside])
        assert not crop["ids"][5:].any()
        assert not crop["known"][5:].any()
        assert torch.equal(crop["known"][:5], (crop["ids"][:5] > 0) | (background == "known"))
        assert train(run) == 3
    assert np.isfinite(training_rows(run).loss).all()


def test_a_source_of_one_section(store: Store) -> None:
    flat = make_run(
        store,
        "flat",
        datasplit={"train": [{"volume": "v", "roi": "2:3, :, :"}]},
        trainer={"augment": []},
    )
    crop = as_dict(crops_of(flat).batch(0))
    assert (crop["raw"] == crop["raw"][0]).all()
    assert crop["known"][0].any()
    assert not crop["known"][1:].any()


def test_sources_are_taken_by_their_weights(store: Store) -> None:
    train_on = [
        {"volume": "v", "roi": "0:8, 0:8, 0:8", "weight": 3},
        {"volume": "v", "roi": "0:8, 0:8, 12:20"},
    ]
    run = make_run(store, "weights", datasplit={"train": train_on}, trainer={"augment": []})
    crops, labels = crops_of(run), store_labels(store)
    raw = [crops.batch(i)[0][0, 0].numpy() for i in range(200)]
    shares = [sum(np.array_equal(r, labels[:8, :8, x : x + 8]) for r in raw) / 200 for x in (0, 12)]
    assert sum(shares) == 1
    assert shares[0] == pytest.approx(0.75, abs=0.1)


def test_half_of_the_crops_are_where_labels_are(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    labels = np.zeros((8, 8, 64), np.uint8)
    labels[:, :, 60:] = 1  # 4 of the 57 places hold any of it
    volume(store, labels, labels)
    shares = []
    for candidates in (1, 20):
        crops = augmented(store, candidates=candidates)
        shares.append(sum(bool(crops.batch(i)[1].any()) for i in range(200)) / 200)
    # at random 4 / 57; of 20 at least one: 1 - (53 / 57) ** 20 = 0.77, in half of the crops
    assert shares[0] == pytest.approx(4 / 57, abs=0.05)
    assert shares[1] == pytest.approx((0.77 + 4 / 57) / 2, abs=0.1)


# Augmentation: the image is the ids, so a change of one alone is seen


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirror_flips_all_or_nothing(store: Store, axis: int) -> None:
    crops, before = augmented(store, {"kind": "mirror", "axes": [axis]}), augmented(store)
    flipped = []
    for number in range(12):
        got, base = as_dict(crops.batch(number)), as_dict(before.batch(number))
        flipped.append(not torch.equal(got["raw"], base["raw"]))
        if flipped[-1]:
            base = {key: value.flip(axis) for key, value in base.items()}
        assert_equal(got, base)
    assert 0 < sum(flipped) < 12


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_rotate90_turns_all_or_nothing(store: Store, plane: tuple[int, int]) -> None:
    crops = augmented(store, {"kind": "rotate90", "planes": [list(plane)]})
    before, turns = augmented(store), []
    for number in range(16):
        got, base = as_dict(crops.batch(number)), as_dict(before.batch(number))
        turned = [
            k for k in range(4) if torch.equal(got["raw"], torch.rot90(base["raw"], k, plane))
        ]
        assert len(turned) == 1
        assert_equal(got, {key: torch.rot90(base[key], turned[0], plane) for key in KEYS})
        turns += turned
    assert set(turns) == {0, 1, 2, 3}


def test_everything_that_moves_voxels_moves_all(store: Store) -> None:
    labels = Affinities().prepare(store_labels(store))[0]
    value = np.zeros(labels.max() + 1)  # of an object in the image
    value[labels] = store_labels(store)
    crops = augmented(store, {"kind": "mirror"}, {"kind": "rotate90"})
    for number in range(8):
        got = as_dict(crops.batch(number))
        np.testing.assert_array_equal(got["raw"], value[got["ids"].numpy()])
        assert torch.equal(got["known"], got["ids"] > 0)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "intensity", "scale": 0.25, "shift": 0.5},
        {"kind": "noise", "std": 0.25, "probability": 1},
        {"kind": "blur", "sigma": 1.0, "probability": 1},
    ],
    ids=lambda change: change["kind"],
)
def test_what_changes_the_image_leaves_the_ids(store: Store, change: dict[str, Any]) -> None:
    crops, before = augmented(store, change), augmented(store)
    for number in range(6):
        got, base = as_dict(crops.batch(number)), as_dict(before.batch(number))
        assert torch.equal(got["ids"], base["ids"])
        assert torch.equal(got["known"], base["known"])
        difference = (got["raw"] - base["raw"]).numpy()
        assert difference.any()
        if change["kind"] == "intensity":
            slope, offset = np.polyfit(base["raw"].ravel(), got["raw"].ravel(), 1)
            assert 0.75 <= slope <= 1.25
            assert abs(offset) <= 0.5
            assert np.abs(slope * base["raw"] + offset - got["raw"]).max() < 1e-3
        elif change["kind"] == "noise":
            assert np.abs(difference.mean()) < 0.05
            assert 0 < difference.std() < 0.3
        else:
            # edges are softened: neighbours differ by less, the extremes stay inside
            steps = [crop["raw"].diff(dim=2).abs().max() for crop in (got, base)]
            assert steps[0] < steps[1]
            assert got["raw"].max() <= base["raw"].max() + 1e-3


@pytest.mark.parametrize(
    "never",
    [
        {"kind": "noise", "probability": 0},
        {"kind": "blur", "probability": 0},
        {"kind": "intensity", "scale": 0, "shift": 0},
        {"kind": "mirror", "axes": []},
    ],
    ids=lambda never: never["kind"],
)
def test_what_never_happens_changes_nothing(store: Store, never: dict[str, Any]) -> None:
    crops, before = augmented(store, never), augmented(store)
    for number in range(3):
        assert_equal(as_dict(crops.batch(number)), as_dict(before.batch(number)))


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"crop": [8, 10, 8]}, ["trainer.crop", "[8, 10, 8]", "no multiple of [4, 4, 4]"]),
        ({"crop": [8, 8, 16], "batch_size": 2}, ["[8, 8, 16]", "batch", "planes of equal sides"]),
        ({"augment": [{"kind": "rotate90", "planes": [[1, 1]]}]}, ["two different axes"]),
        ({"augment": [{"kind": "mirror", "axes": [3]}]}, ["less than or equal to 2"]),
        ({"augment": [{"kind": "noise", "probability": 2}]}, ["probability"]),
    ],
)
def test_crops_that_cannot_be_are_refused(
    store: Store, trainer: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SegError) as refused:
        make_run(store, "bad", architecture={"kind": "unet"}, trainer=trainer)
    assert str(refused.value).startswith("bad.yaml: trainer")
    assert len(str(refused.value)) < 250
    for word in words:
        assert word in str(refused.value)
    assert not store.exists("runs/bad.yaml")


def test_flat_crops_are_turned_in_their_plane_only(store: Store) -> None:
    deep = {"kind": "unet", "strides": [[1, 2, 2], [1, 2, 2]]}
    with pytest.raises(SegError, match=r"\[8, 5, 8\] \(turned by trainer.augment\)"):
        make_run(store, "bad", architecture=deep, trainer={"crop": [5, 8, 8]})
    inside = {"augment": [{"kind": "rotate90", "planes": [[1, 2]]}], "batch_size": 2}
    run = make_run(store, "plane", architecture=deep, trainer={"crop": [5, 8, 8]} | inside)
    assert crops_of(run).batch(0)[0].shape == (2, 1, 5, 8, 8)


def test_a_score_that_does_not_exist_is_refused_before_training(store: Store) -> None:
    with pytest.raises(SegError, match=r"bad\.yaml: validation.criterion: .*'voi_sun'"):
        make_run(store, "bad", validation={"criterion": "voi_sun"})


# The loop


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


def test_the_same_seed_gives_the_same_weights_and_another_does_not(store: Store) -> None:
    found = []
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        trainer = {"iterations": 2, "crop": [16, 16, 16], "seed": seed}
        found.append(trained(store, name, architecture=UNET, trainer=trainer)[1])
    assert same(found[0], found[1])
    assert not same(found[0], found[2])
    assert all(torch.isfinite(tensor).all() for tensor in found[0].values())


def test_what_was_interrupted_ends_as_what_was_not(store: Store) -> None:
    trainer = {"iterations": 6, "checkpoint_interval": 2}
    whole, weights = trained(store, "whole", trainer=trainer)
    assert iterations(whole) == [2, 4, 6]
    run = make_run(store, "parts", datasplit={"train": [{"volume": "p"}]}, trainer=trainer)

    def fall(row: dict[str, float]) -> None:
        if row["iteration"] == 4:  # before it was saved
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(run, fall)
    assert iterations(run) == [2]
    assert train(run) == 4
    assert same(load_tensors(run, checkpoint_path(run, 6))[0], weights)
    assert not store.exists("runs/parts/checkpoints/state.safetensors")
    assert not store.exists("runs/parts/train.lock")
    curves = [training_rows(r).drop(columns="seconds") for r in (whole, run)]
    assert curves[0].equals(curves[1])
    assert curves[1].iteration.tolist() == [1, 2, 3, 4, 5, 6]
    assert curves[1].iteration.dtype == np.int64
    assert train(run) == 0


def test_training_lowers_the_loss_of_the_phantom(store: Store) -> None:
    rows: list[dict[str, float]] = []
    trainer = {
        "iterations": 40,
        "crop": [16, 16, 16],
        "learning_rate": 0.01,
        "warm_up": 4,
        "augment": [{"kind": "mirror"}],
    }
    task = {"kind": "affinities", "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    run = make_run(
        store, "learns", datasplit={"train": [{"volume": "p"}]}, trainer=trainer, task=task
    )
    assert train(run, rows.append) == 40
    losses = [row["loss"] for row in rows]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    curve = training_rows(run)
    assert curve.loss.tolist() == losses
    assert np.allclose(curve.loss, curve.loss_bce + curve.loss_dice)
    rates = [0.01 * schedule(i, 4, 40) for i in range(40)]
    assert curve.learning_rate.tolist() == rates


def test_the_learning_rate_by_hand() -> None:
    assert [schedule(i, 4, 8) for i in range(4)] == [0.25, 0.5, 0.75, 1]
    # then half a cosine over four iterations: 0, 45, 90, 135 degrees
    half = 2**-0.5
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert [schedule(i, 4, 8) for i in range(4, 8)] == pytest.approx(expected, abs=1e-6)
    assert schedule(8, 4, 8) == pytest.approx(0, abs=1e-6)
    assert schedule(0, 0, 10) == 1
    assert [schedule(i, 5, 3) for i in range(3)] == pytest.approx([0.2, 0.4, 0.6])


def test_threads_are_those_of_the_first_use(store: Store) -> None:
    """They are part of what makes weights reproducible, so another machine takes them over."""
    before = torch.get_num_threads()
    run = make_run(store, "threads", compute={"threads": None})
    assert run.frozen.compute.threads is not None
    frozen = store.read_json("runs/threads/run.json")
    frozen["config"]["compute"]["threads"] = 3
    store.write_json("runs/threads/run.json", frozen)
    try:
        train(load_run(store, "threads"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# The halo


class SmallUNet(nn.Module):
    """One level below the full resolution, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.below = convolution(3), convolution(3)
        self.out = nn.Conv3d(2, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skip = self.into(image)
        below = self.below(nn.functional.max_pool3d(skip, 2))
        return self.out(torch.cat([skip, nn.functional.interpolate(below, scale_factor=2)], 1))


def convolution(*kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv3d:
    sizes = kernel * 3 if len(kernel) == 1 else kernel
    padding = tuple(dilation * (k // 2) for k in sizes)
    return nn.Conv3d(1, 1, sizes, stride, padding, dilation)


ONE = (1, 1, 1)


@pytest.mark.parametrize(
    ("network", "stride", "halo"),
    [
        (lambda: convolution(1), ONE, (0, 0, 0)),
        (lambda: convolution(3), ONE, (1, 1, 1)),
        (lambda: convolution(3, dilation=2), ONE, (2, 2, 2)),
        (lambda: nn.Sequential(convolution(1, 3, 5), convolution(3)), ONE, (1, 2, 3)),
        # a cell of 2 voxels: each is 1 from the other
        (lambda: nn.Sequential(nn.AvgPool3d(2), nn.Upsample(scale_factor=2)), (2, 2, 2), ONE),
        # a convolution that passes over every other voxel
        (
            lambda: nn.Sequential(convolution(1, stride=2), nn.Upsample(scale_factor=2)),
            (2, 2, 2),
            ONE,
        ),
        # voxel 0 of a cell reaches 1 down, so into the cell before; a convolution below reaches
        # one cell more, -4 is its first voxel; the last convolution goes to -5
        (SmallUNet, (2, 2, 2), (5, 5, 5)),
        # pooling of 32 along x only
        (
            lambda: nn.Sequential(
                nn.AvgPool3d((1, 1, 32)), nn.Upsample(scale_factor=(1.0, 1.0, 32.0))
            ),
            (1, 1, 32),
            (0, 0, 31),
        ),
    ],
)
def test_the_halo_by_hand(network: Callable[[], nn.Module], stride: Triple, halo: Triple) -> None:
    torch.manual_seed(0)
    assert find_halo(network(), 1, stride) == halo


def test_what_sees_everything_has_no_halo() -> None:
    network = nn.Sequential(convolution(3), nn.InstanceNorm3d(1))
    with pytest.raises(SegError, match="use batch normalisation"):
        find_halo(network, 1, ONE)


def test_the_halo_is_kept_with_the_weights(store: Store) -> None:
    run, _ = trained(store, "halo")
    assert load_network(run, 3)[1]["halo"] == [1, 1, 1]


# Checkpoints


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


# Classes of the user's own


def reopened(run: Run) -> Run:
    """The run as the next process sees it, frozen."""
    _ = run.frozen
    again = load_run(run.store, run.name)
    assert again.frozen == run.frozen
    return again


def test_an_architecture_of_the_users_own(store: Store) -> None:
    run = reopened(
        make_run(store, "mine", architecture={"kind": "test_training:Plain", "width": 17})
    )
    assert train(run) == 3
    network = load_network(run, 3)[0]
    assert network[0].weight.shape == (17, 1, 3, 3, 3)


def test_an_augmentation_of_the_users_own(store: Store) -> None:
    mine = {"kind": "test_training:Brighter", "by": 5.0}
    run = reopened(make_run(store, "bright", trainer={"augment": [mine]}))
    got, base = as_dict(crops_of(run).batch(0)), as_dict(augmented(store).batch(0))
    assert torch.equal(got["raw"], base["raw"] + 5)
    assert torch.equal(got["ids"], base["ids"])


def test_a_task_of_the_users_own(store: Store) -> None:
    """From training to the choice of the best."""
    parts = {"train": "0:20, 0:16, 0:16", "validate": "0:20, 0:16, 16:28"}
    run = make_run(
        store,
        "inside",
        datasplit={part: [{"volume": "v", "roi": roi}] for part, roi in parts.items()},
        task={"kind": "test_training:Inside"},
        trainer={"iterations": 30, "learning_rate": 0.02},
    )
    train(reopened(run))
    best, _ = validate(run)
    assert (best.criterion, best.iteration, best.parameters) == ("dice", 30, {})
    assert best.score > 0.9
    assert "loss_square" in training_rows(run)


def test_a_post_processor_of_the_users_own(tmp_path: Path) -> None:
    """All that is left to the look-up table is left to it."""
    labels = np.array([[1, 1, 2, 2, 2, 2, 3, 3]] * 4).reshape(1, 4, 8).repeat(4, 0)
    labels[2:, 2:] = 4
    output = output_for(tmp_path, labels.shape, block=(4, 4, 4), chunk=(2, 2, 2))
    config = {
        "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "postprocess": {
            "kind": "test_training:Voxels",
            "sub_block": [2, 2, 2],
            "agglomeration": {"threshold": [0.4, 0.5]},
        },
    }
    run = reopened(make_run(output.store, "own", task={"kind": "affinities"} | config))
    task = run.frozen.task
    assert isinstance(task.postprocess, Voxels)
    assert len(task.postprocess.choices()) == 4  # with the two size penalties
    give_prediction(output, ideal_affinities(labels, task.neighbours))
    make_fragments(task, output, 8, None, Options())
    table, _ = make_lut(task, output, task.postprocess.choices()[0])
    make_segmentation(task, output, None, Options())
    assert table.figures["fragments"] == 128
    assert_same_partition(read(output, "segmentation"), ideal_segments(labels))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("test_training:Nothing", ["cannot import 'test_training:Nothing'", "Nothing"]),
        ("nowhere.at_all:Thing", ["cannot import", "nowhere"]),
        (".relative:Thing", ["cannot import '.relative:Thing'"]),
        (":Thing", [":Thing"]),
        ("test_training:", ["cannot import 'test_training:'"]),
        ("test_training:Voxels", ["is no Architecture"]),
        ("test_training:KEYS", ["is no Architecture"]),
        ("resnet", ["unknown kind 'resnet'; known: unet, or package.module:Name"]),
        (None, ["unknown kind None"]),
    ],
)
def test_a_class_that_cannot_be_taken_is_named(
    store: Store, kind: str | None, words: list[str]
) -> None:
    with pytest.raises(SegError, match=r"bad\.yaml: architecture: ") as refused:
        make_run(store, "bad", architecture={"kind": kind})
    for word in words:
        assert word in str(refused.value)
