"""Checks of a datasplit: each on data that is right and on data that is wrong, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from seg_core.checks.datasplit import CHECKS, check_datasplit
from seg_core.datasplit import make_datasplit
from seg_core.errors import NotReady
from seg_core.geometry import Box
from seg_core.run import Run, add_run
from seg_core.store import Store
from seg_core.train import train
from seg_core.verdicts import Verdict, read_verdicts
from seg_core.volumes.declared import add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

SHAPE = (16, 8, 8)
CLASSES = {"kind": "one_hot", "classes": {"dark": [1], "bright": [2]}}


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def halves() -> NDArray[np.uint8]:
    """Two objects, side by side along x."""
    labels = np.ones(SHAPE, np.uint8)
    labels[:, :, 4:] = 2
    return labels


def declare(
    store: Store, name: str, raw: NDArray[Any], labels: NDArray[Any], size: float = 8
) -> None:
    for array, data in (("raw", raw), ("labels", labels)):
        uri, box = store.path(f"volumes/{name}/{array}.zarr"), Box.of_shape(data.shape[-3:])
        channels = len(data) if data.ndim == 4 else None
        made = ZarrArray(uri, box, channels, data.dtype.name, (size,) * 3, (4, 8, 8))
        create(made).write(box, data)
    text = "raw: raw.zarr\nlabels: labels.zarr\nblock: [8, 8, 8]\nchunk: [8, 8, 8]\n"
    add_volume(store, name, text.encode(), f"{name}.yaml")


def run_on(
    store: Store, train: tuple[str, str], validate: tuple[str, str], task: Any = None
) -> Run:
    """A run on one source each, given as volume and ROI."""
    content: dict[str, Any] = {
        "datasplit": {
            part: [{"volume": name, "roi": roi}]
            for part, (name, roi) in (("train", train), ("validate", validate))
        },
        "architecture": {"kind": "unet", "features": [4, 4, 4]},
        "trainer": {"iterations": 1, "crop": [4, 8, 8], "warm_up": 0},
        "compute": {"threads": 1, "device": "cpu"},
        "task": task or {"kind": "affinities"},
    }
    return add_run(store, "r", yaml.safe_dump(content).encode(), "r.yaml")


def verdicts_of(run: Run) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in check_datasplit(run)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The volume `a`: noise with two objects."""
    store = Store(str(tmp_path))
    declare(store, "a", noise(0), halves())
    return store


def test_a_sound_datasplit_passes_all_checks(store: Store) -> None:
    run = run_on(store, ("a", "0:8, :, :"), ("a", "8:16, :, :"))
    found = verdicts_of(run)
    assert list(found) == list(CHECKS)
    assert all(verdict.passed for verdict in found.values())
    assert found["labels_present"].figures["objects"] == {
        "a[0:8, 0:8, 0:8]": 2,
        "a[8:16, 0:8, 0:8]": 2,
    }
    # pairs of neighbours in 8 sections of 8 x 8: 7 * 64 along z, 8 * 7 * 8 along y and along x;
    # those in different objects: one of every row along x
    pairs = 7 * 64 + 2 * 8 * 7 * 8
    assert found["class_balance"].figures["train"] == {
        "background": 0,
        "foreground": 1,
        "boundary": pytest.approx(64 / pairs),
    }
    assert len({verdict.made_from for verdict in found.values()}) == 1


def test_labels_that_hold_nothing(store: Store) -> None:
    labels = halves()
    labels[8:] = 0
    declare(store, "b", noise(1), labels)
    verdict = verdicts_of(run_on(store, ("a", ":, :, :"), ("b", "8:16, :, :")))["labels_present"]
    assert verdict.blocks
    assert "b[8:16, 0:8, 0:8] has labels with no object" in verdict.sentence
    assert verdict.figures["objects"]["b[8:16, 0:8, 0:8]"] == 0


@pytest.mark.parametrize(
    ("raw", "size", "severity", "words"),
    [
        (noise(1, (2, *SHAPE)), 8, "error", ["channels", "has 2"]),
        (noise(1), 10, "warning", ["voxel size", "[10.0, 10.0, 10.0]"]),
        (noise(1).astype(np.uint16), 8, "warning", ["dtype", "uint16"]),
    ],
)
def test_sources_that_differ(
    store: Store, raw: NDArray[Any], size: float, severity: str, words: list[str]
) -> None:
    declare(store, "b", raw, halves(), size)
    verdict = verdicts_of(run_on(store, ("a", ":, :, :"), ("b", ":, :, :")))["shapes_agree"]
    assert not verdict.passed
    assert verdict.severity == severity
    for word in words:
        assert word in verdict.sentence


def test_a_leak_within_a_volume(store: Store) -> None:
    run = run_on(store, ("a", "0:9, :, :"), ("a", "7:16, 0:4, :"))
    verdict = verdicts_of(run)["no_leak"]
    assert verdict.blocks
    assert verdict.figures["shared_voxels"] == 2 * 4 * 8
    assert verdict.figures["shared"][0]["box"] == "7:9, 0:4, 0:8"
    assert "share 64 voxels of raw data (7:9, 0:4, 0:8)" in verdict.sentence


def test_a_leak_through_a_second_volume_of_the_same_array(store: Store) -> None:
    text = "raw: ../a/raw.zarr\nlabels: ../a/labels.zarr\nblock: [8, 8, 8]\nchunk: [8, 8, 8]\n"
    add_volume(store, "again", text.encode(), "again.yaml")
    verdict = verdicts_of(run_on(store, ("a", "0:9, :, :"), ("again", "8:16, :, :")))["no_leak"]
    assert verdict.blocks
    assert verdict.figures["shared_voxels"] == 64


def test_a_leak_through_a_copy_that_was_cut_elsewhere(store: Store) -> None:
    """Sections 6 to 13 of the volume were imported apart, in another dtype."""
    declare(store, "cut", noise(0)[6:14].astype(np.uint16), halves()[6:14])
    verdict = verdicts_of(run_on(store, ("a", "0:9, :, :"), ("cut", ":, 0:4, :")))["no_leak"]
    assert verdict.blocks
    assert verdict.figures["shared"][0]["box"] == "0:3, 0:4, 0:8"
    assert verdict.figures["shared_voxels"] == 3 * 4 * 8
    apart = verdicts_of(run_on(store, ("a", "0:6, :, :"), ("cut", ":, 0:4, :")))["no_leak"]
    assert apart.passed


def test_margins_of_one_value_are_no_leak(store: Store) -> None:
    black, other = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    black[4:], other[4:] = noise(2)[4:], noise(3)[4:]
    declare(store, "b", black, halves())
    declare(store, "c", other, halves())
    assert verdicts_of(run_on(store, ("b", ":, :, :"), ("c", ":, :, :")))["no_leak"].passed


@pytest.mark.parametrize(("begin", "gap", "near"), [(9, 1, 1), (11, 3, 0)])
def test_a_small_gap_passes_but_is_told(store: Store, begin: int, gap: int, near: int) -> None:
    run = run_on(store, ("a", "0:8, :, :"), ("a", f"{begin}:16, :, :"))  # half a crop is 2
    verdict = verdicts_of(run)["no_leak"]
    assert verdict.passed
    assert verdict.figures["gap_voxels"] == [gap, 0, 0]
    assert verdict.figures["pairs_nearer_than_half_a_crop"] == near
    assert ("less than half a crop" in verdict.sentence) == bool(near)


def test_a_class_that_was_never_seen(store: Store) -> None:
    labels = halves()
    labels[:8, :, 4:] = 1
    declare(store, "b", noise(1), labels)
    run = run_on(store, ("b", "0:8, :, :"), ("b", "8:16, :, :"), CLASSES)
    verdict = verdicts_of(run)["class_balance"]
    assert verdict.blocks
    assert verdict.sentence.startswith("bright is in what is validated on (bright 50 %)")
    turned = run_on(store, ("b", "8:16, :, :"), ("b", "0:8, :, :"), CLASSES)
    verdict = verdicts_of(turned)["class_balance"]
    assert (verdict.passed, verdict.severity) == (False, "warning")
    assert verdict.figures["train"] == {"background": 0, "dark": 0.5, "bright": 0.5}


def test_a_class_that_is_much_rarer_in_one_of_them(store: Store) -> None:
    labels = halves()
    labels[:8, :, 4:] = 1
    labels[0, 0, 4:6] = 2  # 2 of 512 voxels against 256 of 512
    declare(store, "b", noise(1), labels)
    run = run_on(store, ("b", "0:8, :, :"), ("b", "8:16, :, :"), CLASSES)
    verdict = verdicts_of(run)["class_balance"]
    assert (verdict.passed, verdict.severity) == (False, "warning")
    assert "bright 0.391 %" in verdict.sentence


# What hangs from it


def test_no_training_on_a_datasplit_that_failed_until_it_is_mended(store: Store) -> None:
    """The run is not frozen by it, so that its file can be mended under the same name."""
    leaky = run_on(store, ("a", "0:9, :, :"), ("a", "8:16, :, :"))
    with pytest.raises(NotReady, match=r"training of run r does not start.*no_leak: .*64 voxels"):
        train(leaky)
    made = sorted(p.name for p in Path(store.path("runs/r")).rglob("*") if p.is_file())
    assert made == sorted(["contents.json", *(f"{name}.json" for name in CHECKS)])
    assert read_verdicts(store, "runs/r")["no_leak"].blocks

    mended = run_on(store, ("a", "0:8, :, :"), ("a", "8:16, :, :"))
    assert train(mended) == 1
    assert not any(verdict.blocks for verdict in read_verdicts(store, "runs/r").values())
    assert store.exists("runs/r/datasplit.json")


def test_a_warning_stops_nothing(store: Store) -> None:
    declare(store, "b", noise(1), halves(), size=10)
    run = run_on(store, ("a", ":, :, :"), ("b", ":, :, :"))
    make_datasplit(run)
    assert not read_verdicts(store, "runs/r")["shapes_agree"].passed
    assert train(run) == 1
