"""Choosing the best, and every command from an import to a report, on one small volume."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information

from seg_core.cli import seg
from seg_core.errors import NotReady, SegError
from seg_core.run import add_run, load_run
from seg_core.segment import output_of
from seg_core.store import Store
from seg_core.validate import validate
from seg_core.validation.best import choose, read_best, read_scores
from seg_core.volumes.declared import load_volume
from seg_core.volumes.ome_zarr import open_array

SHAPE, BLOCK = (16, 32, 32), 16
VALIDATED = "p[8:16, 0:32, 0:32]"


def no_number(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


def call(*command: str) -> Any:
    """What a command prints with --json."""
    result = CliRunner().invoke(seg, [*command, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=no_number)


def say(*command: str) -> list[str]:
    """The lines that a command prints for a person."""
    result = CliRunner().invoke(seg, command)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


# The choice by hand


def table(*rows: tuple[int, str, str, str, float]) -> pd.DataFrame:
    names = ["iteration", "dataset", "parameters", "criterion", "score"]
    return pd.DataFrame(rows, columns=names)


LOW, HIGH = '{"threshold": 0.2}', '{"threshold": 0.6}'


def test_the_lowest_error_and_the_highest_share_win() -> None:
    rows = [
        (500, "a", LOW, "voi_sum", 2.0),
        (500, "a", HIGH, "voi_sum", 1.5),
        (1000, "a", LOW, "voi_sum", 1.0),
        (1000, "a", HIGH, "voi_sum", 3.0),
        (500, "a", LOW, "f1_50", 0.2),
        (500, "a", HIGH, "f1_50", 0.9),
        (1000, "a", LOW, "f1_50", 0.5),
        (1000, "a", HIGH, "f1_50", 0.1),
    ]
    best = choose(table(*rows), "voi_sum")
    assert (best.iteration, best.parameters) == (1000, {"threshold": 0.2})
    assert (best.criterion, best.score) == ("voi_sum", 1.0)
    assert best.scores == {"voi_sum": 1.0, "f1_50": 0.5}
    best = choose(table(*rows), "f1_50")
    assert (best.iteration, best.parameters, best.score) == (500, {"threshold": 0.6}, 0.9)
    assert best.scores["voi_sum"] == 1.5


def test_the_mean_over_datasets_counts() -> None:
    rows = [
        (1, "a", LOW, "voi_sum", 0.0),
        (1, "b", LOW, "voi_sum", 3.0),  # mean 1.5, and the best of all on a
        (1, "a", HIGH, "voi_sum", 1.0),
        (1, "b", HIGH, "voi_sum", 1.5),
    ]
    best = choose(table(*rows), "voi_sum")
    assert (best.parameters, best.score) == ({"threshold": 0.6}, 1.25)


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("criterion", ["mean/hausdorff", "mean/dice"])
def test_what_is_no_number_never_wins(criterion: str, nothing: float) -> None:
    rows = [
        (1, "a", LOW, criterion, nothing),
        (1, "a", HIGH, criterion, 0.4),
        (2, "a", LOW, criterion, nothing),
        (2, "a", HIGH, criterion, nothing),
    ]
    best = choose(table(*rows), criterion)
    assert (best.iteration, best.parameters, best.score) == (1, {"threshold": 0.6}, 0.4)
    with pytest.raises(SegError, match=f"no checkpoint has a finite {criterion}"):
        choose(table(rows[0], *rows[2:]), criterion)


def test_what_has_no_score_on_one_dataset_does_not_win_by_the_others() -> None:
    rows = [
        (1, "a", LOW, "mean/dice", 1.0),
        (1, "b", LOW, "mean/dice", math.nan),
        (1, "a", HIGH, "mean/dice", 0.3),
        (1, "b", HIGH, "mean/dice", 0.2),
    ]
    best = choose(table(*rows), "mean/dice")
    assert (best.parameters, best.score) == ({"threshold": 0.6}, 0.25)


def test_other_scores_may_be_none() -> None:
    rows = [(1, "a", "{}", "mean/dice", 0.5), (1, "a", "{}", "mean/hausdorff", math.nan)]
    best = choose(table(*rows), "mean/dice")
    assert best.parameters == {}
    assert math.isnan(best.scores["mean/hausdorff"])


def test_of_equal_ones_the_earliest_is_chosen() -> None:
    rows = [(i, "a", p, "voi_sum", 1.0) for i in (1000, 200) for p in (HIGH, LOW)]
    best = choose(table(*rows), "voi_sum")
    assert (best.iteration, best.parameters) == (200, {"threshold": 0.2})


def test_a_criterion_of_another_task_is_named() -> None:
    rows = table((1, "a", LOW, "voi_sum", 1.0), (1, "a", LOW, "f1_50", 1.0))
    with pytest.raises(SegError, match="no score 'mean/dice'; it has f1_50, voi_sum"):
        choose(rows, "mean/dice")


# Every command, on a phantom


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


# Scores of files


def test_evaluate_says_what_scikit_image_says(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, (10, 12, 14)).astype(np.uint16)
    found = (truth + 10 * random.integers(0, 3, truth.shape)).astype(np.uint16)
    found[random.random(found.shape) < 0.2] = 3
    for name, data in (("found", found), ("truth", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data)
    call("import", f"{tmp_path}/truth.tif", f"{tmp_path}/truth.zarr", "--voxel-size", "4,4,4",
         "--labels")  # fmt: skip
    for labels, roi in (("truth.tif", None), ("truth.zarr", None), ("truth.tif", "2:9, :, 3:-4")):
        part = (slice(2, 9), slice(None), slice(3, -4)) if roi else (slice(None),) * 3
        scores = call("evaluate", f"{tmp_path}/found.tif", f"{tmp_path}/{labels}",
                      *(["--roi", roi] if roi else []))  # fmt: skip
        split, merge = variation_of_information(truth[part], found[part], ignore_labels=[0])
        error = adapted_rand_error(truth[part], found[part], ignore_labels=[0])[0]
        assert abs(scores["voi_split"] - split) < 1e-9
        assert abs(scores["voi_merge"] - merge) < 1e-9
        assert abs(scores["voi_sum"] - split - merge) < 1e-9
        assert abs(scores["adapted_rand_error"] - error) < 1e-9


def test_evaluate_classes_and_what_has_no_score(tmp_path: Path) -> None:
    truth = np.zeros((5, 6, 7), np.uint8)
    truth[0], truth[4] = 1, 2
    found = truth.copy()
    found[4] = 0
    for name, data in (("found", found), ("truth", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data)
    files = [f"{tmp_path}/{name}.tif" for name in ("found", "truth")]
    scores = call("evaluate", *files, "--classes", "a,b")
    assert (scores["a/dice"], scores["b/dice"], scores["mean/dice"]) == (1, 0, 0.5)
    assert scores["a/hausdorff"] == 0
    assert scores["b/hausdorff"] is scores["mean/hausdorff"] is None  # JSON has no nan
    lines = dict(line.split() for line in say("evaluate", *files, "--classes", "a,b"))
    assert (lines["b/dice"], lines["b/hausdorff"]) == ("0.000000", "nan")


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


# Help


def commands(group: click.Group, path: Sequence[str] = ()) -> list[list[str]]:
    found = [list(path)]
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found += commands(command, [*path, name]) if inner else [[*path, name]]
    return found


def test_every_command_has_help() -> None:
    found = commands(seg)
    assert len(found) >= 17
    for command in found:
        for option in ("--help", "-h"):
            lines = say(*command, option)
            assert lines[0].startswith("Usage: ")
            assert lines[2].strip()[0].isupper()  # what it does, in a sentence


def test_every_command_that_tells_anything_tells_it_as_json() -> None:
    said = {" ".join(c) for c in commands(seg) if "--json" in "".join(say(*c, "--help"))}
    assert said == {
        *("import", "phantom", "evaluate", "train", "validate", "predict", "segment", "blocks"),
        *("check", "report", "compare", "promote", "retrain"),
        *("volume list", "volume show", "run list", "run show", "run remove"),
    }


def test_evaluate_says_why_a_file_holds_no_labels(tmp_path: Path) -> None:
    colours, small = tmp_path / "colours.tif", tmp_path / "small.tif"
    tifffile.imwrite(colours, np.zeros((5, 6, 7, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(small, np.zeros((5, 6, 7), np.float32))
    for file, words in ((colours, "found uint8 in 3 channels"), (small, "found float32")):
        result = CliRunner().invoke(seg, ["evaluate", str(file), str(file)])
        assert result.exit_code == 1
        assert words in result.output


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
