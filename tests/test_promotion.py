"""Promotion: comparison with the promoted run, refusals, roll-back, and two at once."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_project import add, copy_of, finish

from seg_core.blockwise.engine import Options
from seg_core.cli import seg
from seg_core.errors import Busy, NotReady, SegError
from seg_core.lease import Lease
from seg_core.lifecycle.comparison import mean_score
from seg_core.lifecycle.promotion import (
    compare,
    is_as_good,
    promote,
    promoted,
    read_history,
    roll_back,
    standing,
)
from seg_core.run import Run, load_run
from seg_core.segment import predict_volume, segment_volume
from seg_core.source import open_source
from seg_core.store import Store
from seg_core.validation.best import read_best
from seg_core.verdicts import read_verdicts
from seg_core.volumes.declared import load_volume
from seg_core.volumes.ome_zarr import open_array

pytestmark = pytest.mark.slow

ELSEWHERE = {
    "train": [{"volume": "phantom", "roi": "30:120, :, :"}],
    "validate": [{"volume": "phantom", "roi": "0:30, :, :"}],
}
CELLS = list(range(1, 255))
CLASSES = {"kind": "one_hot", "classes": {"cell": CELLS}}


@pytest.fixture(scope="module")
def project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that differ: on what `tiny` is validated on, `longer` is better and `worse` worse."""
    folder = tmp_path_factory.mktemp("more")
    store = copy_of(project, folder)
    finish(add(store, "longer", start={"run": "tiny"}, trainer={"iterations": 40}))
    finish(add(store, "worse", trainer={"seed": 3}))
    finish(add(store, "elsewhere", trainer={"seed": 3}, datasplit=ELSEWHERE))
    finish(add(store, "classes", task=CLASSES, trainer={"iterations": 1}))
    add(store, "begun")
    return folder


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Store:
    return copy_of(project, tmp_path)


def of(store: Store, name: str) -> Run:
    return load_run(store, name)


def say(store: Store, *command: str) -> Result:
    return CliRunner().invoke(seg, [*command, "--store", store.uri])


def refused(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize(
    ("criterion", "ours", "theirs", "tolerance", "expected"),
    [
        ("voi_sum", 1.0, 2.0, 0, True),
        ("voi_sum", 2.0, 2.0, 0, True),
        ("voi_sum", 2.1, 2.0, 0, False),
        ("voi_sum", 1.1, 1.0, 0.1, True),  # 1.1 - 1.0 is more than 0.1 in binary
        ("voi_sum", 1.11, 1.0, 0.1, False),
        ("mean/dice", 0.9, 0.8, 0, True),
        ("mean/dice", 0.7, 0.8, 0.05, False),
        ("mean/dice", 0.7, 0.8, 0.1, True),
        ("mean/dice", math.nan, 0.1, 9, False),
        ("mean/dice", 0.1, math.nan, 0, True),
        ("mean/dice", math.nan, math.nan, 0, True),
        ("mean/hausdorff", math.inf, math.inf, 0, True),
        ("mean/hausdorff", math.inf, 3.0, 9, False),
        ("mean/hausdorff", 3.0, math.inf, 0, True),
    ],
)
def test_not_worse_by_more_than_the_tolerance(
    criterion: str, ours: float, theirs: float, tolerance: float, expected: bool
) -> None:
    assert is_as_good(criterion, ours, theirs, tolerance) is expected


def test_where_nothing_is_promoted_all_is_well(store: Store) -> None:
    verdict = compare(of(store, "worse"), 0)
    assert verdict.passed
    assert verdict.sentence == "no run is promoted that run worse could be worse than"
    assert read_verdicts(store, "runs/worse")["no_regression"] == verdict
    promote(of(store, "worse"))
    assert promoted(store) == "worse"


def test_both_are_scored_on_the_same_sources(store: Store) -> None:
    tiny, challenger = of(store, "tiny"), of(store, "elsewhere")
    promote(tiny, anyway=True)
    verdict = compare(challenger, 0)
    # what the promoted run makes of the challenger's source, by the steps of a whole volume
    volume = load_volume(store, "phantom")
    predict_volume(tiny, volume, None, Options())
    segment_volume(tiny, volume, Options())
    source = open_source(challenger, challenger.config.datasplit.validate_[0])
    segmentation = open_array(store.path("runs/tiny/phantom/segmentation.zarr")).read(source.roi)
    labels = source.labels.read(source.roi)
    expected = tiny.frozen.task.scores(segmentation, labels, volume.voxel_size)["voi_sum"]
    assert verdict.figures == {
        "criterion": "voi_sum",
        "tolerance": 0,
        "promoted": "tiny",
        "score": read_best(challenger).score,
        "promoted_score": pytest.approx(expected, rel=1e-12),
        "difference": pytest.approx(read_best(challenger).score - expected, rel=1e-12),
    }
    assert expected != read_best(tiny).score  # that is of other sources
    assert verdict.passed == (read_best(challenger).score <= expected)
    assert (verdict.check, verdict.severity) == ("no_regression", "error")


def test_nothing_is_scored_twice(store: Store) -> None:
    promote(of(store, "tiny"), anyway=True)
    compare(of(store, "worse"), 0)  # validation scored both on the same
    assert not store.exists("runs/tiny/compared")
    first = compare(of(store, "elsewhere"), 0)
    files = {p: p.stat().st_mtime_ns for p in Path(store.uri).glob("runs/*/compared/*")}
    assert [path.parent.parent.name for path in files] == ["tiny"]
    assert compare(of(store, "elsewhere"), 0) == first
    assert {p: p.stat().st_mtime_ns for p in Path(store.uri).glob("runs/*/compared/*")} == files


def test_a_worse_run_is_refused_unless_the_tolerance_allows_it(store: Store) -> None:
    promote(of(store, "tiny"), anyway=True)
    worse = of(store, "worse")
    verdict = compare(worse, 0.1)
    assert verdict.blocks
    assert verdict.sentence.endswith("on the same sources, which is worse by more than 0.1")
    with pytest.raises(NotReady, match="run worse is not promoted: run worse has voi_sum "):
        promote(worse)
    assert promoted(store) == "tiny"
    assert compare(worse, verdict.figures["difference"]).passed
    promote(worse)
    assert promoted(store) == "worse"


def test_a_better_run_is_promoted_once(store: Store) -> None:
    promote(of(store, "tiny"), anyway=True, why="the first")
    assert compare(of(store, "longer"), 0).passed
    promote(of(store, "longer"))
    content = store.read_bytes("promoted.json")
    promote(of(store, "longer"))
    promote(of(store, "longer"), anyway=True)
    assert store.read_bytes("promoted.json") == content
    assert [(e["run"], e["why"][:20]) for e in read_history(store)] == [
        ("tiny", "the first"),
        ("longer", "run longer has voi_s"),
    ]


def test_a_comparison_with_something_else_is_none(store: Store) -> None:
    longer = of(store, "longer")
    with pytest.raises(NotReady, match="run longer was not compared with any run as they are now"):
        promote(longer)
    compare(longer, 0)
    promote(of(store, "tiny"), anyway=True)
    with pytest.raises(NotReady, match="compared by other scores with the promoted run tiny as"):
        promote(longer)
    compare(longer, 0)
    labels = open_array(store.path("volumes/phantom/labels.zarr"))
    box = labels.box
    labels.write(box, labels.read(box)[::-1].copy())
    with pytest.raises(NotReady, match="was compared by other scores"):
        promote(longer)
    # labels are taken as they are now, for both
    again = compare(longer, 0)
    sources = [open_source(longer, longer.config.datasplit.validate_[0])]
    assert again.figures["score"] == mean_score(longer, sources, "voi_sum")
    assert again.figures["score"] != read_best(longer).score
    assert len(list(Path(store.uri).glob("runs/*/compared/*.json"))) == 2


def test_scores_of_another_task_say_nothing(store: Store) -> None:
    promote(of(store, "tiny"), anyway=True)
    verdict = compare(of(store, "classes"), 9)
    assert verdict.blocks
    assert verdict.sentence == (
        "run classes cannot be compared with the promoted run: its task is one_hot, that of run "
        "tiny is affinities"
    )
    with pytest.raises(NotReady, match="its task is one_hot"):
        promote(of(store, "classes"))
    promote(of(store, "classes"), anyway=True)
    names = {"kind": "one_hot", "classes": {"nucleus": CELLS}}
    nucleus = finish(add(store, "nucleus", task=names, trainer={"iterations": 1}))
    assert "its classes are ['background', 'nucleus']" in compare(nucleus, 9).sentence
    best = store.read_json("runs/classes/best.json")
    best["scores"].pop("mean/dice")
    store.write_json("runs/classes/best.json", best)
    same = finish(add(store, "same", task=CLASSES, trainer={"iterations": 1, "seed": 1}))
    assert compare(same, 9).sentence.endswith("run classes has no score 'mean/dice'")


def test_what_is_not_validated_is_never_promoted(store: Store) -> None:
    begun = of(store, "begun")
    for attempt in (lambda: compare(begun, 0), lambda: promote(begun, anyway=True)):
        with pytest.raises(NotReady, match="run begun has no best checkpoint yet: seg validate"):
            attempt()
    assert promoted(store) is None


def test_roll_backs_go_down_what_was_promoted(store: Store) -> None:
    with pytest.raises(SegError, match="no run was promoted yet: there is nothing to roll back"):
        roll_back(store)
    for name in ("tiny", "worse", "longer"):
        promote(of(store, name), anyway=True)
    assert roll_back(store) == "worse" == promoted(store)
    assert roll_back(store) == "tiny" == promoted(store)
    with pytest.raises(SegError, match="no run was promoted before run tiny"):
        roll_back(store)
    promote(of(store, "longer"), anyway=True)
    assert standing(store) == ["tiny", "longer"]
    assert roll_back(store) == "tiny"
    assert [entry["run"] for entry in read_history(store)] == [
        *("tiny", "worse", "longer", "worse", "tiny", "longer", "tiny")
    ]
    assert read_history(store)[3]["why"] == "rolled back from longer"


def test_two_at_once_are_one_after_the_other_or_one_refuses(store: Store) -> None:
    with Lease(store, "promoted.lock", "promotion"):
        for attempt in (lambda: promote(of(store, "tiny"), anyway=True), lambda: roll_back(store)):
            with pytest.raises(Busy, match=r"promotion: process .* is at it"):
                attempt()
    names = ["tiny", "worse", "longer", "elsewhere"] * 3

    def attempt_of(name: str) -> bool:
        try:
            promote(load_run(store, name), anyway=True)
        except Busy:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        done = sum(pool.map(attempt_of, names))
    history = [entry["run"] for entry in read_history(store)]
    assert 1 <= len(history) <= done  # to promote what is promoted adds nothing
    assert history[-1] == promoted(store)
    assert not store.exists("promoted.lock")


def test_the_command(store: Store) -> None:
    assert say(store, "promote").stdout == "no run is promoted\n"
    assert say(store, "promote", "tiny").stdout.startswith("run tiny is promoted: no run is prom")
    assert "which is worse; allow it with a larger" in refused(say(store, "promote", "worse"))
    assert promoted(store) == "tiny"
    assert say(store, "promote", "worse", "--tolerance", "0.5").exit_code == 0
    result = say(store, "promote", "classes", "--anyway", "--json")
    assert json.loads(result.stdout)["comparison"]["passed"] is False
    assert promoted(store) == "classes"
    assert say(store, "promote", "--back").stdout == "run worse is promoted again\n"
    shown: dict[str, Any] = json.loads(say(store, "promote", "--json").stdout)
    assert shown == store.read_json("promoted.json")
    lines = say(store, "promote").stdout.splitlines()
    assert lines[0] == "run worse is promoted"
    assert lines[-1].endswith("worse: rolled back from classes")
    assert "--back takes no run" in refused(say(store, "promote", "tiny", "--back"))
    assert "no run 'nobody'" in refused(say(store, "promote", "nobody"))
    assert "seg validate begun" in refused(say(store, "promote", "begun"))
