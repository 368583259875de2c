"""Crops: where they are cut, what is made of them, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_training import (
    KEYS,
    as_dict,
    assert_equal,
    augmented,
    crops_of,
    make_run,
    small_store,
    volume,
)

from seg_core.datasplit import make_datasplit
from seg_core.errors import SegError
from seg_core.source import open_source
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.train import train, training_rows
from seg_core.training.device import crop_processes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("store"))


def test_a_crop_depends_on_its_number_only(store: Store) -> None:
    run = make_run(store, "numbers", trainer={"batch_size": 2})
    first, second = crops_of(run), crops_of(run)
    forward = [first.batch(i) for i in range(4)]
    backward = [second.batch(i) for i in reversed(range(4))][::-1]
    prepared = list(second.batches(1, 4))
    assert len(prepared) == 3
    processes = list(second.batches(1, 4, processes=2))
    others = backward + prepared + processes
    for got, again in zip(forward + 2 * forward[1:], others, strict=True):
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


def test_processes_cut_crops_for_a_gpu_as_far_as_shared_memory_goes(store: Store) -> None:
    crops = augmented(store, batch_size=2)
    assert crops.nbytes == sum(t.nbytes for t in crops.batch(0)) == 2 * 8**3 * 9
    free, gpu = shutil.disk_usage("/dev/shm").free, torch.device("cuda")
    assert 1 <= crop_processes(gpu, crops.nbytes) <= 4
    assert crop_processes(gpu, 10 * free) == 0
    assert crop_processes(gpu, free // 4) == 1
    assert crop_processes(torch.device("cpu"), crops.nbytes) == 0


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
