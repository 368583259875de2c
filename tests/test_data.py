"""The real volumes, cut small: a minute of training is enough to see that everything fits."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from seg_core.cli import seg
from seg_core.geometry import Box
from seg_core.volumes.ome_zarr import open_array

pytestmark = pytest.mark.data

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("SEG_TEST_DATA", ROOT.parent / "shared/data"))

FIB25 = "raw: raw.zarr\nlabels: labels.zarr\nblock: {block}\nchunk: [32, 32, 32]\n"
CRAWL = {"iterations": 1, "warm_up": 0, "learning_rate": 1e-12, "weight_decay": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not DATA.is_dir():
        pytest.fail(f"no real volumes in {DATA}: set SEG_TEST_DATA to a folder with fib25 and vnc")
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEG_STORE", str(folder))
        yield folder


def call(*command: str) -> Any:
    result = CliRunner().invoke(seg, list(command), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in command else result.stdout


def bring_in(store: Path, name: str, labels: str, roi: str, size: str, chunk: str) -> None:
    folder = store / "volumes" / name
    options = ["--roi", roi, "--voxel-size", size, "--chunk", chunk]
    call("import", str(DATA / name / "raw.tif"), str(folder / "raw.zarr"), *options)
    call(
        "import",
        str(DATA / name / f"{labels}.tif"),
        str(folder / "labels.zarr"),
        "--labels",
        *options,
    )


def add(folder: Path, what: str, name: str, content: str) -> None:
    (folder / f"{name}.yaml").write_text(content)
    call(what, "add", str(folder / f"{name}.yaml"))


def example(path: str, **trainer: Any) -> dict[str, Any]:
    """An example's run, trained for less."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "examples" / path).read_text())
    content["trainer"].update(trainer)
    return content


def make_all(run: str, *volumes: str) -> dict[str, Any]:
    call("train", run)
    call("validate", run)
    reports = {}
    for volume in volumes:
        call("predict", run, volume)
        call("segment", run, volume)
        reports[volume] = call("report", run, volume, "--json")
    return reports


@pytest.fixture(scope="module")
def neurons(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """FIB-25 in blocks and in one, and run `watershed`, trained: what its file says."""
    folder = tmp_path_factory.mktemp("files")
    bring_in(store, "fib25", "neurons", "0:96, 0:128, 0:128", "10,10,10", "32,32,32")
    add(folder, "volume", "fib25", FIB25.format(block=[64, 64, 64]))
    whole = FIB25.format(block=[96, 128, 128]).replace("raw: raw", "raw: ../fib25/raw")
    add(folder, "volume", "whole", whole.replace("labels.z", "../fib25/labels.z"))
    # two crops: torch takes oneDNN for them, and for one so small convolutions of half the speed
    run = example("fib25/affinities.yaml", iterations=500, crop=[40, 40, 40], batch_size=2)
    run["datasplit"] = {
        "train": [{"volume": "fib25", "roi": "0:64, :, :"}],
        "validate": [{"volume": "fib25", "roi": "64:96, :, :"}],
    }
    add(folder, "run", "watershed", yaml.safe_dump(run))
    call("train", "watershed")
    return run


@pytest.mark.parametrize("kind", ["watershed", "mutex_watershed"])
def test_fib25_in_blocks_is_as_good_as_in_one(
    store: Path, neurons: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    if kind != "watershed":  # training is the same whatever comes after: it has these weights
        run = neurons | {"start": {"run": "watershed", "iteration": 500}}
        run["task"] = neurons["task"] | {
            "postprocess": neurons["task"]["postprocess"] | {"kind": kind}
        }
        run["trainer"] = neurons["trainer"] | CRAWL
        add(tmp_path, "run", kind, yaml.safe_dump(run))

    reports = make_all(kind, "fib25", "whole")

    (blocks,), (one,) = (reports[v]["scores"].values() for v in ("fib25", "whole"))
    # a seeded watershed on the intensity of the full volume scores 2.4
    assert blocks["voi_sum"] < min(2.4, everything_in_one(store / "volumes/fib25/labels.zarr"))
    assert blocks["voi_sum"] < one["voi_sum"] + 0.05


def everything_in_one(labels: Path) -> float:
    """VOI sum of a single segment: the entropy of the labels, in bits."""
    ids = open_array(str(labels)).read(Box((64, 0, 0), (96, 128, 128)))
    share = np.unique(ids[ids > 0], return_counts=True)[1] / np.count_nonzero(ids)
    return float(-(share * np.log2(share)).sum())


def test_vnc_as_classes_and_as_instances(store: Path, tmp_path: Path) -> None:
    bring_in(store, "vnc", "labels", "0:20, 0:384, 0:384", "50,4.6,4.6", "20,64,64")
    add(
        tmp_path,
        "volume",
        "vnc",
        "raw: raw.zarr\nlabels: labels.zarr\nblock: [20, 192, 192]\nchunk: [20, 64, 64]\n",
    )
    files = [(ROOT / f"examples/vnc/{name}.yaml").read_text() for name in ("semantic", "instances")]
    semantic, instances = (yaml.safe_load(text) for text in files)
    assert {k for k in semantic if semantic[k] != instances[k]} == {"task"}
    for name in ("semantic", "instances"):
        run = example(f"vnc/{name}.yaml", iterations=40, crop=[5, 96, 96], warm_up=10)
        add(tmp_path, "run", name, yaml.safe_dump(run))

    (classes,) = make_all("semantic", "vnc")["vnc"]["scores"].values()
    assert classes["membrane/dice"] > 0.5
    assert set(classes) > {"mitochondria/dice", "mean/dice"}

    # so short a training finds no mitochondrion: it is scored, and nothing is made with it
    call("train", "instances")
    objects = call("validate", "instances", "--json")["scores"]
    assert {"f1_50", "average_precision", "voi_sum"} < set(objects)
    refused = CliRunner().invoke(seg, ["predict", "instances", "vnc"])
    assert (refused.exit_code, objects["average_precision"]) == (1, 0)
    assert "better_than_trivial: average_precision of the best is 0" in refused.output
    assert not (store / "runs/instances/vnc/prediction.zarr").exists()
