"""Every command from an import to a report, on one small volume, and what it leaves."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from command_line import call, no_number, say
from numpy.typing import NDArray
from test_best_parameters import table

from seg_core.cli import seg
from seg_core.errors import NotReady
from seg_core.run import add_run, load_run
from seg_core.segment import output_of
from seg_core.store import Store
from seg_core.validate import validate
from seg_core.validation.best import choose, read_best, read_scores
from seg_core.volumes.declared import load_volume
from seg_core.volumes.ome_zarr import open_array

SHAPE, BLOCK = (16, 32, 32), 16
VALIDATED = "p[8:16, 0:32, 0:32]"

RUN: dict[str, Any] = {
    "datasplit": {
        "train": [{"volume": "p", "roi": "0:8, :, :"}],
        "validate": [{"volume": "p", "roi": "8:16, :, :"}],
    },
    "architecture": {"kind": "own_kinds:Plain"},
    "trainer": {
        "iterations": 60,
        "crop": [8, 16, 16],
        "learning_rate": 0.02,
        "warm_up": 2,
        "augment": [{"kind": "mirror"}],
    },
    "compute": {"device": "cpu", "threads": 1},
}
SEMANTIC = RUN | {"task": {"kind": "one_hot", "classes": {"dark": [3], "bright": [7]}}}
INSTANCES = RUN | {
    "task": {
        "kind": "affinities",
        "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "postprocess": {
            "kind": "watershed",
            "seed_distance": 2,
            "agglomeration": {"threshold": [0.3, 0.6], "size_penalty": 0},
        },
    },
    "trainer": RUN["trainer"] | {"checkpoint_interval": 30},
    "validation": {"last": 2},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    """A store after every command, and what each of them said."""
    folder = tmp_path_factory.mktemp("project")
    store, said = Store(str(folder / "store")), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEG_STORE", store.uri)
        phantom = f"{folder}/phantom"
        said["phantom"] = call("phantom", phantom, "--shape", "16,32,32", "--seed", "1")
        raw = open_array(said["phantom"]["raw"]).read()
        tifffile.imwrite(folder / "raw.tif", raw)
        # values that are classes, not objects
        tifffile.imwrite(folder / "classes.tif", np.where(raw < 100, 3, 7).astype(np.uint8))
        for volume, labels in (
            ("p", f"{folder}/classes.tif"),
            ("cells", said["phantom"]["labels"]),
        ):
            into = f"{store.uri}/volumes/{volume}"
            given = ["--voxel-size", "10,10,10", "--chunk", "8,8,8"]
            said["import"] = call("import", f"{folder}/raw.tif", f"{into}/raw.zarr", *given)
            call("import", labels, f"{into}/labels.zarr", *given, "--labels")
            file = write(
                folder / f"{volume}.yaml",
                {"raw": "raw.zarr", "labels": "labels.zarr"}
                | {"block": [BLOCK] * 3, "chunk": [8, 8, 8]},
            )
            said[f"volume add {volume}"] = say("volume", "add", file)
        for run, content in (("semantic", SEMANTIC), ("instances", INSTANCES)):
            volume = "p" if run == "semantic" else "cells"
            text = yaml.safe_dump(content, sort_keys=False)
            (folder / f"{run}.yaml").write_text(text.replace("volume: p", f"volume: {volume}"))
            said[f"run add {run}"] = say("run", "add", f"{folder}/{run}.yaml")
            said[run] = {step: call(step, run) for step in ("train", "validate")}
            for step in ("predict", "segment", "report", "blocks"):
                said[run][step] = call(step, run, volume)
        for group, name in (("volume", "p"), ("run", "semantic")):
            said[f"{group} list"] = call(group, "list")
            said[f"{group} show"] = call(group, "show", name)
    return store, said


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_data_is_described(project: tuple[Store, dict[str, Any]]) -> None:
    store, said = project
    assert said["import"] == {
        "uri": f"{store.uri}/volumes/cells/raw.zarr",
        "shape": list(SHAPE),
        "dtype": "uint8",
        "voxel_size": [10, 10, 10],
    }
    assert said["phantom"].keys() == {"raw", "labels"}
    assert said["volume add p"] == ["volume p: (16, 32, 32) voxels in 4 blocks"]
    assert said["volume list"] == ["cells", "p"]
    assert said["volume show"] == {
        "name": "p",
        "raw": f"{store.uri}/volumes/p/raw.zarr",
        "labels": f"{store.uri}/volumes/p/labels.zarr",
        "mask": None,
        "rois": None,
        "dtype": "uint8",
        "voxel_size": [10, 10, 10],
        "roi": "0:16, 0:32, 0:32",
        "block": [16, 16, 16],
        "blocks": 4,
        "blocks outside the mask": 0,
    }


def test_runs_are_described(project: tuple[Store, dict[str, Any]]) -> None:
    said = project[1]
    assert said["run add semantic"] == ["run semantic: one_hot, 60 iterations"]
    assert said["run list"] == ["instances", "semantic"]
    shown = said["run show"]
    assert shown["frozen"] is True
    assert shown["checkpoints"] == [60]
    assert shown["config"]["task"]["classes"] == {"dark": [3], "bright": [7]}
    assert shown["config"]["trainer"]["weight_decay"] == 0.01  # every default
    assert shown["best"]["criterion"] == "mean/dice"


def test_classes_are_learnt(project: tuple[Store, dict[str, Any]]) -> None:
    store, said = project
    done = said["semantic"]
    assert done["train"] == {"run": "semantic", "iterations": 60, "made": 60}
    best = done["validate"]
    assert (best["iteration"], best["parameters"], best["made"]) == (60, {}, 1)
    assert best["score"] == best["scores"]["mean/dice"] > 0.9
    keys = list(load_volume(store, "p").grid)
    assert done["predict"] == {"made": keys, "passed": []}
    for step in ("fragments", "segmentation"):
        assert done["segment"][step] == {"made": keys, "passed": []}
    assert done["segment"]["lut"]["made"] is True
    found = output(store, "semantic", "p", "segmentation")
    assert found.shape == SHAPE
    truth = open_array(f"{store.uri}/volumes/p/labels.zarr").read()
    assert (found == np.where(truth == 3, 1, 2)).mean() > 0.9


def output(store: Store, run: str, volume: str, name: str) -> NDArray[Any]:
    where = output_of(load_run(store, run), load_volume(store, volume))
    return open_array(store.path(where.path(f"{name}.zarr"))).read()


def test_every_block_of_every_step_is_done(project: tuple[Store, dict[str, Any]]) -> None:
    store, said = project
    for run, volume in (("semantic", "p"), ("instances", "cells")):
        rows = said[run]["blocks"]
        assert {row["state"] for row in rows} == {"done"}
        by_step: dict[str, list[str]] = {}
        for row in rows:
            by_step.setdefault(row["step"], []).append(row["block"])
        keys = list(load_volume(store, volume).grid)
        steps = ["datasplit", "checkpoint", "validation_scores"]
        assert list(by_step) == [*steps, "prediction", "fragments", "lut", "segmentation", "report"]
        assert all(by_step[step] == keys for step in ("prediction", "fragments", "segmentation"))


def test_the_report_holds_the_scores(project: tuple[Store, dict[str, Any]]) -> None:
    store, said = project
    for run, volume, criterion in (
        ("semantic", "p", "mean/dice"),
        ("instances", "cells", "voi_sum"),
    ):
        report, best = said[run]["report"], said[run]["validate"]
        folder = f"runs/{run}/{volume}"
        assert store.read_json(f"{folder}/report.json") == report
        # the whole volume goes the way that validation went, so the scores are those
        source = VALIDATED.replace("p[", f"{volume}[")
        assert report["scores"] == {source: best["scores"]}
        assert report["validation"] == {"criterion": criterion} | best["scores"]
        assert report["segments"]["count"] == len(
            np.setdiff1d(output(store, run, volume, "segmentation"), [0])
        )
        page = store.read_bytes(f"{folder}/report.html").decode()
        assert page.startswith("<!doctype html>")
        assert f"<h1>{run} on {volume}</h1>" in page
        assert "data:image/png;base64," in page
        assert "NaN" not in re.sub('"data:[^"]*"', "", page)
        for score in best["scores"].values():
            assert json.dumps(score) in page


def test_scores_have_one_row_for_each_combination(project: tuple[Store, dict[str, Any]]) -> None:
    store, said = project
    run = load_run(store, "instances")
    scores = read_scores(run)
    columns = ["iteration", "dataset", "parameters", "criterion"]
    assert [*columns, "score", "made_from"] == list(scores.columns)
    assert not scores.duplicated(columns).any()
    assert set(scores.iteration) == {30, 60}
    assert set(scores.dataset) == {"cells[8:16, 0:32, 0:32]"}
    assert sorted(json.loads(p)["threshold"] for p in set(scores.parameters)) == [0.3, 0.6]
    criteria = set(scores.criterion)
    assert {"voi_split", "voi_merge", "voi_sum", "adapted_rand_error"} < criteria
    assert len(scores) == 2 * 1 * 2 * len(criteria)
    best = read_best(run)
    assert store.read_json("runs/instances/best.json") == {
        name: value
        for name, value in said["instances"]["validate"].items()
        if name not in ("run", "made")
    }
    means = scores[scores.criterion == "voi_sum"].groupby(["iteration", "parameters"]).score.mean()
    assert best.score == means.min()
    assert best.criterion == "voi_sum"
    assert not store.exists("runs/instances/validation")


def test_asked_again_nothing_is_scored(project: tuple[Store, dict[str, Any]]) -> None:
    store = project[0]
    run = load_run(store, "instances")
    path = Path(store.path("runs/instances/scores.parquet"))
    before = path.stat().st_mtime_ns
    best, made = validate(run)
    assert made == 0
    assert best == read_best(run)
    assert path.stat().st_mtime_ns == before
    # though a process ended before it wrote its choice
    store.remove("runs/instances/best.json")
    with pytest.raises(NotReady, match="seg validate instances"):
        read_best(run)
    assert validate(run) == (best, 0)
    assert read_best(run) == best


def test_scores_on_two_sources_are_averaged(project: tuple[Store, dict[str, Any]]) -> None:
    """Of one volume, which is predicted once; one of them is named twice."""
    store = project[0]
    rois = ["8:16, :, :", "0:8, :, 3:16", "8:16, :, :"]
    content = SEMANTIC | {
        "datasplit": {
            "train": [{"volume": "p", "roi": "0:8, :, 16:32"}],
            "validate": [{"volume": "p", "roi": roi} for roi in rois],
        },
        "trainer": RUN["trainer"] | {"iterations": 2},
    }
    run = add_run(store, "sources", yaml.safe_dump(content).encode(), "sources.yaml")
    with pytest.raises(NotReady, match="seg train sources"):
        validate(run)
    call("train", "sources", "--store", store.uri)
    best, made = validate(run)
    assert made == 2
    scores = read_scores(run)
    assert set(scores.dataset) == {VALIDATED, "p[0:8, 0:32, 3:16]"}
    dice = scores[scores.criterion == "mean/dice"].score
    assert len(dice) == 2
    assert best.score == pytest.approx(dice.mean())


def test_a_best_of_which_a_score_is_none_is_read_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    run = add_run(store, "r", yaml.safe_dump(SEMANTIC).encode(), "r.yaml")
    rows = [(1, "a", "{}", "mean/dice", 0.5), (1, "a", "{}", "mean/hausdorff", math.nan)]
    store.write_json("runs/r/best.json", choose(table(*rows), "mean/dice").__dict__)
    text = store.read_bytes("runs/r/best.json")
    assert json.loads(text, parse_constant=no_number)["scores"]["mean/hausdorff"] is None
    best = read_best(run)
    assert best.scores["mean/dice"] == 0.5
    assert math.isnan(best.scores["mean/hausdorff"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["predict", "--blocks", ""], "no block ''"),
        (["predict", "--blocks", "z0y0x0"], "no block 'z0y0x0'"),
        (["predict", "--shard", ""], "expected I/N"),
        (["predict", "--shard", "0/0"], "expected I/N"),
        (["predict", "--shard", "²/3"], "expected I/N"),
        (["segment", "--set", "threshold=0.3"], "its argmax joins no fragments"),
        (["segment", "--set", "threshold"], "expected NAME=NUMBER"),
        (["segment", "--set", "threshold=0.3", "--unset"], "give one of them"),
    ],
)
def test_what_cannot_be_chosen_is_named(
    project: tuple[Store, dict[str, Any]], command: list[str], words: str
) -> None:
    given = [command[0], "semantic", "p", *command[1:], "--store", project[0].uri]
    result = CliRunner().invoke(seg, given)
    assert result.exit_code == 1
    assert words in result.output


def test_blocks_are_chosen_by_key_and_by_shard(project: tuple[Store, dict[str, Any]]) -> None:
    store = project[0]
    where = ["semantic", "p", "--store", store.uri]
    keys = list(load_volume(store, "p").grid)
    assert call("predict", *where, "--blocks", f"{keys[2]},{keys[0]}")["passed"] == [
        keys[2],
        keys[0],
    ]
    assert call("predict", *where, "--shard", "1/3") == {"made": [], "passed": [keys[1]]}
    made = call("predict", *where, "--blocks", keys[3], "--force")
    assert made == {"made": [keys[3]], "passed": []}
