"""Checks of scores: what looks at no image is to be beaten; what fails stops what hangs from it."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny_project import copy_of
from tiny_run import opened

from seg_core.blockwise.engine import Options
from seg_core.checks.datasplit import CHECKS as OF_DATASPLIT
from seg_core.checks.scores import (
    CHECKS,
    better_than_trivial,
    check_scores,
    scores_finite,
    scores_made_from,
    trivial_segmentations,
)
from seg_core.cli import seg
from seg_core.errors import NotReady
from seg_core.run import Run
from seg_core.segment import fragment_volume, lut_of_volume, predict_volume, segment_blocks
from seg_core.source import open_sources
from seg_core.store import Store
from seg_core.tasks.one_hot import OneHot
from seg_core.validate import validate
from seg_core.validation.best import Best, read_best
from seg_core.verdicts import read_verdicts, write_verdicts
from seg_core.volumes.declared import Volume, load_volume

BEST = Best(12, {"threshold": 0.5}, "voi_sum", 2.0, {"voi_sum": 2.0})


@pytest.fixture(scope="module")
def trained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Volume]:
    store = copy_of(finished, tmp_path_factory.mktemp("store"), "runs/tiny/phantom")
    return opened(store)


def rows(*scores: float) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "iteration": 12,
                "dataset": f"v{number}",
                "parameters": '{"threshold": 0.5}',
                "criterion": "voi_sum",
                "score": score,
            }
            for number, score in enumerate(scores)
        ]
    )


def test_scores_that_are_numbers_pass() -> None:
    assert scores_finite(BEST, rows(1.0, 3.0)).figures == {"v0": 1.0, "v1": 3.0}
    assert scores_finite(BEST, rows(1.0, 3.0)).passed


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_fails(bad: float) -> None:
    verdict = scores_finite(BEST, rows(1.0, bad))
    assert verdict.blocks
    assert "no number on v1" in verdict.sentence


def test_a_best_without_scores_fails() -> None:
    assert scores_finite(replace(BEST, iteration=13), rows(1.0)).blocks


@pytest.mark.parametrize(
    ("criterion", "score", "trivial", "passed", "severity"),
    [
        ("voi_sum", 2.0, {"one segment": 4.0, "equal boxes": 3.0}, True, "error"),
        ("voi_sum", 3.5, {"one segment": 4.0, "equal boxes": 3.0}, False, "error"),
        ("voi_sum", 3.0, {"one segment": 4.0, "equal boxes": 3.0}, False, "error"),
        ("mean/dice", 0.7, {"background everywhere": 0.0, "cell everywhere": 0.6}, True, "error"),
        ("mean/dice", 0.5, {"background everywhere": 0.0, "cell everywhere": 0.6}, False, "error"),
        ("average_precision", 0.0, {"one segment": 0.0}, False, "error"),
        ("mean/hausdorff", 90.0, {"cell everywhere": float("nan")}, True, "error"),
        # nothing can be got wrong, so nothing is proven, and nothing is wrong
        ("voi_sum", 0.0, {"one segment": 0.0}, False, "warning"),
        ("mean/dice", 1.0, {"cell everywhere": 1.0}, False, "warning"),
    ],
)
def test_the_best_against_what_looks_at_no_image(
    criterion: str, score: float, trivial: dict[str, float], passed: bool, severity: str
) -> None:
    verdict = better_than_trivial(replace(BEST, criterion=criterion, score=score), trivial)
    assert (verdict.passed, verdict.severity) == (passed, severity)
    assert verdict.figures["best"] == score
    if verdict.blocks:
        assert "has learnt nothing of use" in verdict.sentence


def test_trivial_objects_are_one_segment_and_boxes(trained: tuple[Run, Volume]) -> None:
    run, _ = trained
    source = open_sources(run)["validate"][0]
    labels = np.ones((8, 8, 8), np.uint32)
    labels[:, :, 4:] = 2
    labels[:4] += 2
    labels[:, :4] += 4  # 8 cubes of 4 voxels
    found = trivial_segmentations(run.frozen.task, source, labels)
    assert set(np.unique(found["one segment"])) == {1}
    pairs = np.unique(np.stack([found["equal boxes"].ravel(), labels.ravel()]), axis=1)
    assert pairs.shape[1] == 8  # the boxes are the objects, whatever their ids


def test_trivial_classes_are_each_of_them_everywhere(trained: tuple[Run, Volume]) -> None:
    task = OneHot(classes={"dark": [1], "bright": [2]})
    source = open_sources(trained[0])["validate"][0]
    found = trivial_segmentations(task, source, np.ones((2, 2, 2), np.uint8))
    assert {name: int(a.max()) for name, a in found.items()} == {
        "background everywhere": 0,
        "dark everywhere": 1,
        "bright everywhere": 2,
    }
    assert all(a.min() == a.max() for a in found.values())


def test_the_smallest_run_is_better_than_trivial(trained: tuple[Run, Volume]) -> None:
    found = read_verdicts(trained[0].store, trained[0].folder)
    assert all(found[name].passed for name in CHECKS)
    figures = found["better_than_trivial"].figures
    # all labels in one segment: VOI is the entropy of the labels
    source = open_sources(trained[0])["validate"][0]
    sizes = np.unique(source.labels.read(source.roi), return_counts=True)[1] / source.roi.voxels
    assert figures["one segment"] == pytest.approx(float(-(sizes * np.log2(sizes)).sum()))
    assert figures["best"] == read_best(trained[0]).score


def test_nothing_starts_after_failed_scores_and_nothing_is_written(
    trained: tuple[Run, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, volume = trained
    monkeypatch.setenv("SEG_STORE", run.store.uri)
    good = check_scores(run)
    bad = replace(good[1], passed=False, sentence="voi_sum of the best is 9, of one segment 4")
    write_verdicts(run.store, run.folder, [bad])
    before = files(run.store)
    for step in (predict_volume, fragment_volume, segment_blocks):
        with pytest.raises(NotReady, match="better_than_trivial: voi_sum of the best is 9"):
            step(run, volume, None, Options())
    with pytest.raises(NotReady, match="better_than_trivial"):
        lut_of_volume(run, volume)
    asked = CliRunner().invoke(seg, ["predict", "tiny", "phantom"])
    assert asked.exit_code == 1
    assert "of one segment 4" in asked.output
    assert files(run.store) == before

    # a verdict on another best is none
    write_verdicts(run.store, run.folder, [replace(bad, made_from="another best")])
    key = next(iter(volume.grid))
    assert predict_volume(run, load_volume(run.store, "phantom"), [key], Options()).made == [key]
    write_verdicts(run.store, run.folder, good)


def test_ended_anywhere_no_best_is_there_without_the_verdicts_on_it(
    trained: tuple[Run, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = trained[0], f"{trained[0].folder}/best.json"
    best, write = run.store.read_json(path), Store.write_json
    for last in range(len(CHECKS) + 2):
        # one that was chosen before, and has no verdicts once there are those on the other
        run.store.remove(f"{run.folder}/checks")
        run.store.write_json(path, best | {"score": 9.0})
        written: list[str] = []

        def step(
            store: Store, path: str, content: object, last: int = last, written: list[str] = written
        ) -> None:
            if len(written) == last:
                raise KeyboardInterrupt
            written.append(path)
            write(store, path, content)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Store, "write_json", step)
            validate(run)
        if run.store.exists(path):
            now, found = scores_made_from(read_best(run)), read_verdicts(run.store, run.folder)
            assert {found[name].made_from for name in CHECKS} == {now}
    assert written[-1] == path
    assert run.store.read_json(path) == best


def files(store: Store) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(store.uri).rglob("*") if p.is_file()}


def test_the_command_tells_all_verdicts_and_fails_with_one_of_them(
    trained: tuple[Run, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = trained
    monkeypatch.setenv("SEG_STORE", run.store.uri)
    asked = CliRunner().invoke(seg, ["check", "tiny"], standalone_mode=False)
    assert asked.return_value == 0
    assert [line.split()[:2] for line in asked.output.splitlines()] == [
        [name, "passed"] for name in (*OF_DATASPLIT, "unchanged", *CHECKS)
    ]
    bad = replace(check_scores(run)[1], passed=False)
    write_verdicts(run.store, run.folder, [bad])
    asked = CliRunner().invoke(seg, ["check", "tiny"], standalone_mode=False)
    assert asked.return_value == 1
    assert "better_than_trivial  failed (error)" in asked.output
    run.store.remove(f"{run.folder}/checks/better_than_trivial.json")
