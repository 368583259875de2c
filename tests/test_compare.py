"""Runs side by side: what differs and what came of each, as figures, as a table and as a page."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from test_report import Page, assert_self_contained, assert_shown
from tiny_project import copy_of
from tiny_run import RUN, make_results, opened

from seg_core.cli import seg
from seg_core.errors import SegError
from seg_core.report.side_by_side import _best, _leaves, compare_runs, write_comparison
from seg_core.run import Run, add_run
from seg_core.train import training_rows
from seg_core.validation.best import read_best
from seg_core.volumes.declared import Volume


@pytest.fixture(scope="module")
def three(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Run], Volume]:
    """One that is done, one trained for less, and one that nobody has trained yet."""
    store = copy_of(finished, tmp_path_factory.mktemp("store"))
    first, volume = opened(store)
    config = yaml.safe_load(RUN)
    config["trainer"] |= {"iterations": 9}
    second = add_run(store, "less", yaml.safe_dump(config).encode(), "less.yaml")
    make_results(second, volume)
    config["task"] = {"kind": "one_hot", "classes": {"a": [1]}}
    third = add_run(store, "new", yaml.safe_dump(config).encode(), "new.yaml")
    return [first, second, third], volume


def test_settings_that_differ_are_named_and_no_others(three: tuple[list[Run], Volume]) -> None:
    runs, _ = three
    settings = compare_runs(runs[:2])["settings"]
    assert settings == {"trainer.iterations": {"tiny": 12, "less": 9}}
    settings = compare_runs(runs)["settings"]
    assert settings["task.kind"] == {"tiny": "affinities", "less": "affinities", "new": "one_hot"}
    assert settings["task.classes.a"] == {"new": [1]}  # the others know no classes
    assert "trainer.crop" not in settings


def test_members_of_lists_are_named_by_their_number() -> None:
    content = {"a": [{"b": 1}, {"b": [2, 3]}], "c": {}, "d": [1, 2]}
    assert _leaves(content) == {"a.0.b": 1, "a.1.b": [2, 3], "c": {}, "d": [1, 2]}


def test_the_best_of_a_score_is_marked_and_none_where_all_are_equal() -> None:
    assert _best("voi_sum", {"a": 1.0, "b": 0.5, "c": 0.5}) == ["b", "c"]
    assert _best("mean/dice", {"a": 0.7, "b": 0.5, "c": float("nan")}) == ["a"]
    assert _best("voi_sum", {"a": 1.0, "b": 1.0}) == []
    assert _best("voi_sum", {"a": 1.0}) == []


def test_what_came_of_each_run_is_told_and_nothing_is_frozen(
    three: tuple[list[Run], Volume],
) -> None:
    runs, volume = three
    content = compare_runs(runs)
    assert content["scores"]["voi_sum"] == {r.name: read_best(r).score for r in runs[:2]}
    assert content["criterion"] == {"tiny": "voi_sum", "less": "voi_sum", "new": "mean/dice"}
    assert content["chosen"]["less"]["iteration"] == 9
    for run in runs[:2]:
        told = content["training"][run.name]
        assert told["iterations"] == told["of"] == run.config.trainer.iterations
        assert told["loss"] == training_rows(run).loss.iloc[-1]
    assert content["chosen"]["new"] is content["training"]["new"] is None
    made = content["volumes"]["phantom"]
    assert made["new"] is None
    assert list(made["tiny"]["steps"]) == ["prediction", "fragments", "lut", "segmentation"]
    assert made["less"]["segments"] > 0
    assert compare_runs(runs, volume) == content
    assert not runs[2].is_frozen


def test_one_run_is_nothing_to_compare(three: tuple[list[Run], Volume]) -> None:
    runs, _ = three
    with pytest.raises(SegError, match="two or more different runs to compare, given: tiny, tiny"):
        compare_runs([runs[0], runs[0]])


def test_the_page_shows_them_side_by_side(three: tuple[list[Run], Volume]) -> None:
    runs, volume = three
    path = Path(write_comparison(runs))
    assert path == Path(runs[0].store.path("reports/compare-tiny-less-new.html"))
    text = path.read_text()
    assert_self_contained(text)
    page = Page(text)
    assert page.sections == ["scores", "differences", "training", "volume-phantom"]
    assert "trainer.iterations 12 9 9" in page.text
    # raw, labels and two segmentations, across z, y, x; and the curves
    assert len(page.links) == 3 * 4 + 1
    assert Path(write_comparison(runs, volume)).read_text() == text


def test_the_command_prints_a_table_or_json(three: tuple[list[Run], Volume]) -> None:
    runs, _ = three
    where = ["--store", runs[0].store.uri]
    said = CliRunner().invoke(seg, ["compare", "tiny", "less", *where])
    assert said.exit_code == 0, said.output
    lines = [line.split() for line in said.stdout.splitlines()]
    assert ["trainer.iterations", "12", "9"] in lines
    assert ["iterations", "12", "9"] in lines
    assert any(line[:2] == [">", "voi_sum"] for line in lines)
    assert lines[-1][-1].endswith("reports/compare-tiny-less.html")
    said = CliRunner().invoke(seg, ["compare", "tiny", "new", "--json", *where])
    content = json.loads(said.stdout)
    assert content["runs"] == ["tiny", "new"]
    assert Path(content["page"]).is_file()
    said = CliRunner().invoke(seg, ["compare", "tiny", "nobody", *where])
    assert said.exit_code == 1
    assert "no run 'nobody'" in said.output
    said = CliRunner().invoke(seg, ["compare", "tiny", "less", "--volume", "mars", *where])
    assert "no volume 'mars'" in said.output


def test_a_broken_volume_takes_away_only_itself(three: tuple[list[Run], Volume]) -> None:
    runs, _ = three
    store = runs[0].store
    store.write_bytes("volumes/typo.yaml", b"raw: [")
    gone = store.read_bytes("volumes/phantom.yaml").replace(b"raw.zarr", b"gone.zarr")
    store.write_bytes("volumes/moved.yaml", gone)
    try:
        content = compare_runs(runs)
        assert list(content["volumes"]) == ["phantom"]
        assert list(content["left_out"]) == ["moved", "typo"]
        assert "gone.zarr" in content["left_out"]["moved"]
        said = CliRunner().invoke(seg, ["compare", "tiny", "less", "--store", store.uri])
        assert said.exit_code == 0, said.output
        *_, moved, typo, page = said.stdout.splitlines()
        assert moved == f"volume moved is left out: {content['left_out']['moved']}"
        assert typo.startswith("volume typo is left out: ")
        shown = Page(Path(page.removeprefix("page: ")).read_text())
        assert "Volume moved is left out" in shown.text
    finally:
        for name in ("typo", "moved"):
            store.remove(f"volumes/{name}.yaml")


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_shows_it(three: tuple[list[Run], Volume], tmp_path: Path) -> None:
    assert_shown(Path(write_comparison(three[0])), tmp_path)
