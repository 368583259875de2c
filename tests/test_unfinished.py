"""What is due, found so that one pass over it, step by step, leaves everything done."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_project import copy_of
from tiny_run import files_of, make_due, opened, unreadable

from seg_core.blockwise.engine import Options
from seg_core.blockwise.records import Record, Records
from seg_core.cli import seg
from seg_core.errors import BlocksFailed, NotReady
from seg_core.geometry import Box
from seg_core.report import make_report
from seg_core.segment import (
    Unfinished,
    begun,
    lut_of_volume,
    predict_volume,
    segment_blocks,
    set_parameters,
    states_of,
    unfinished,
)
from seg_core.store import Store

STEPS = ("prediction", "fragments", "segmentation")
A, B, C = "z0000y0000x0000", "z0002y0001x0000", "z0004y0001x0001"


@pytest.fixture(scope="module")
def finished(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    make_report(*opened(copy_of(finished, folder)))
    return folder


def make(store: Store, due: Unfinished) -> dict[str, list[str]]:
    """Exactly what is due, level by level; what each step made."""
    made = make_due(store, due)
    if "report" in due.whole:
        make_report(*opened(store))
    return made


def mend_middle(store: Store, key: str) -> None:
    """Other raw data that this block alone reads."""
    volume = opened(store)[1]
    middle = volume.grid.box(key).grow([-8] * 3)
    volume.raw.write(middle, np.ascontiguousarray(volume.raw.read(middle)[::-1]))


def records(store: Store, step: str) -> Records:
    return Records(store, f"runs/tiny/phantom/blocks/{step}")


def fail(store: Store, step: str, key: str, times: int) -> None:
    """The block failed so often, from what it is made from now."""
    was = records(store, step).read(key)
    records(store, step).write(
        key, Record("failed", was.inputs, error="out of memory", tries=times)
    )


def test_nothing_is_due_of_what_is_done(store: Store) -> None:
    due = unfinished(*opened(store), tries=3)
    assert due == Unfinished({step: [] for step in STEPS}, [])
    assert not due
    store.remove("runs/tiny/phantom/report.json")
    assert unfinished(*opened(store)).whole == ["report"]


def report_row(store: Store) -> tuple[str, str]:
    where = ["blocks", "tiny", "phantom", "--json", "--store", store.uri]
    row = json.loads(CliRunner().invoke(seg, where).output)[-1]
    assert row["step"] == "report"
    return row["state"], row["reason"]


def test_a_report_on_other_labels_is_due_and_nothing_else(store: Store) -> None:
    assert report_row(store) == ("done", "")
    labels = opened(store)[1].labels
    assert labels is not None
    chunk = Box((64, 0, 0), (72, 8, 8))  # of what is validated on
    before = labels.read(chunk)
    labels.write(chunk, before)  # touched only
    assert not unfinished(*opened(store))
    labels.write(chunk, before + np.array(1000, before.dtype))
    due = unfinished(*opened(store))
    assert (any(due.blocks.values()), due.whole) == (False, ["report"])
    changed = "changed since: segmentation, labels, best or warnings"
    assert report_row(store) == ("stale", changed)
    make(store, due)
    assert report_row(store) == ("done", "")
    assert not unfinished(*opened(store))


def test_a_report_of_another_segmentation_or_best_is_due(store: Store) -> None:
    run, volume = opened(store)
    make_report(run, volume)
    set_parameters(run, volume, {"drop_size": 100.0})
    lut_of_volume(run, volume)
    assert report_row(store)[0] == "stale"
    segment_blocks(run, volume, None, Options())
    assert unfinished(run, volume).whole == ["report"]
    make_report(run, volume)
    assert not unfinished(run, volume)
    best = store.read_json("runs/tiny/best.json")
    store.write_json("runs/tiny/best.json", {**best, "scores": {"voi_sum": 0.5}})
    assert unfinished(run, volume).whole == ["report"]


def test_a_mended_block_takes_along_what_hangs_from_it(store: Store) -> None:
    mend_middle(store, B)
    due = unfinished(*opened(store))
    every = list(opened(store)[1].grid)
    assert due.blocks == {"prediction": [B], "fragments": [B], "segmentation": every}
    assert due.whole == ["lut", "report"]
    before = files_of(store, "tiny")
    made = make(store, due)
    assert (made["prediction"], made["fragments"]) == ([B], [B])
    now = files_of(store, "tiny")
    written = {n for n in now if n.startswith("segmentation.zarr") and now[n] != before[n]}
    assert len(made["segmentation"]) < len(every)
    assert len(written) <= 8 * len(made["segmentation"])
    assert not unfinished(*opened(store))


def test_other_parameters_make_no_block_but_those_of_the_segmentation(store: Store) -> None:
    set_parameters(*opened(store), {"drop_size": 100.0})
    due = unfinished(*opened(store))
    assert [len(due.blocks[step]) for step in STEPS] == [0, 0, 20]
    make(store, due)
    assert not unfinished(*opened(store))


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_ends_with_everything_done(seed: int, store: Store) -> None:
    random = np.random.default_rng(seed)
    keys = list(opened(store)[1].grid)
    for step in STEPS:
        lost, bad = random.choice(keys, 2, replace=False)
        store.remove(f"runs/tiny/phantom/blocks/{step}/{lost}.json")
        fail(store, step, str(bad), 2)
    if seed == 1:
        store.remove("runs/tiny/phantom/lut/table.json")
    for key in random.choice(keys, seed, replace=False):
        mend_middle(store, str(key))
    states = states_of(*opened(store))
    behind = {step: {k for k, s in of.items() if s.state != "done"} for step, of in states.items()}
    made = make(store, unfinished(*opened(store), tries=3))
    assert set(made["prediction"]) == behind["prediction"]
    assert set(made["fragments"]) <= behind["fragments"] | behind["prediction"]
    assert not unfinished(*opened(store))


def test_what_failed_too_often_is_given_up_with_what_waits_for_it(store: Store) -> None:
    fail(store, "prediction", A, 3)
    mend_middle(store, B)
    store.remove(f"runs/tiny/phantom/blocks/segmentation/{C}.json")
    due = unfinished(*opened(store), tries=3)
    assert due.given_up == {"prediction": {A: "out of memory"}}
    # no table without A; so C, which the table of before still fits, is all of the segmentation
    assert due.blocks == {"prediction": [B], "fragments": [B], "segmentation": [C]}
    assert due.whole == []
    assert unfinished(*opened(store), tries=4).given_up == {}
    make(store, due)
    assert not unfinished(*opened(store), tries=3)
    make(store, unfinished(*opened(store)))
    assert not unfinished(*opened(store), tries=3)


@pytest.mark.parametrize("step", ["fragments", "segmentation"])
def test_a_step_that_always_fails_ends_there(step: str, store: Store) -> None:
    fail(store, step, B, 3)
    due = unfinished(*opened(store), tries=3)
    assert not due
    assert due.given_up == {step: {B: "out of memory"}}


def test_fragments_of_another_prediction_get_another_chance(store: Store) -> None:
    fail(store, "fragments", B, 3)
    mend_middle(store, B)
    due = unfinished(*opened(store), tries=3)
    assert due.given_up == {}
    assert due.blocks["fragments"] == [B]
    make(store, due)
    assert not unfinished(*opened(store))


def test_raw_data_that_is_mended_is_another_chance(store: Store) -> None:
    run, volume = opened(store)
    with unreadable(store, [B]):
        for tries in (1, 2):
            with pytest.raises(BlocksFailed):
                predict_volume(run, volume, None, Options())
            assert records(store, "prediction").read(B).tries == tries
        assert unfinished(run, volume, tries=2).given_up.keys() == {"prediction"}
    due = unfinished(run, volume, tries=2)
    assert (due.given_up, due.blocks["prediction"]) == ({}, [B])


def test_a_run_that_began_nothing(store: Store) -> None:
    run, volume = opened(store)
    assert begun(run, volume)
    store.remove("runs/tiny/phantom")
    assert not begun(run, volume)
    every = list(volume.grid)
    assert unfinished(run, volume).blocks == dict.fromkeys(STEPS, every)
    store.remove("runs/tiny/best.json")
    with pytest.raises(NotReady, match="seg validate tiny"):
        unfinished(run, volume)


def test_the_command_says_what_is_due(store: Store) -> None:
    where = ["blocks", "tiny", "phantom", "--due", "--store", store.uri]
    assert CliRunner().invoke(seg, where).output.strip() == ""
    store.remove(f"runs/tiny/phantom/blocks/segmentation/{C}.json")
    said = CliRunner().invoke(seg, where).output.splitlines()
    assert said == [f"segmentation  {C}", "report"]
    found = json.loads(CliRunner().invoke(seg, [*where, "--json"]).output)
    assert found == {"prediction": [], "fragments": [], "segmentation": [C], "whole": ["report"]}
