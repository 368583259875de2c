"""Retraining: a new run only where contents changed, started from the promoted one."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from dagster._utils.schedules import schedule_execution_time_iterator
from tiny_project import add, copy_of, finish

from seg_core.cli import seg
from seg_core.errors import Busy, SegError
from seg_core.lease import Lease
from seg_core.lifecycle.cron import check_cron
from seg_core.lifecycle.promotion import compare, promote, promoted
from seg_core.lifecycle.retrain import load_retrain, next_run
from seg_core.run import Run, load_run, run_names
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.start import read_start
from seg_core.validate import validate
from seg_core.volumes.ome_zarr import open_array

pytestmark = pytest.mark.slow

MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)
WEEK = timedelta(weeks=1)
UNCHANGED = (
    "nothing is retrained: labels, raw data and settings of run tiny are what run {} was made from"
)


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Store:
    store = copy_of(project, tmp_path)
    configure(store)
    return store


def configure(store: Store, **changed: Any) -> None:
    content = {"template": "tiny", "cron": "0 3 * * 1"} | changed
    store.write_bytes("retrain.yaml", yaml.safe_dump(content).encode())


def change(store: Store, array: str = "labels") -> None:
    """Other voxels in the part that is trained on."""
    opened = open_array(store.path(f"volumes/phantom/{array}.zarr"))
    values = opened.read(opened.box)
    values[0] = values[1] if (values[0] != values[1]).any() else values[2]
    opened.write(opened.box, values)


def new_run(store: Store, at: datetime) -> Run:
    run = next_run(store, at)
    assert isinstance(run, Run), run
    return run


def record_of(run: Run) -> dict[str, Any]:
    return dict(run.store.read_json(f"{run.folder}/retrained.json"))


# What decides


def test_unchanged_input_never_retrains(store: Store) -> None:
    assert next_run(store, MONDAY) == UNCHANGED.format("tiny")
    for path in Path(store.path("volumes")).rglob("*"):  # written again, with the same content
        os.utime(path, (1e9, 1e9))
    assert next_run(store, MONDAY + WEEK) == UNCHANGED.format("tiny")
    assert run_names(store) == ["tiny"]


@pytest.mark.parametrize("array", ["labels", "raw"])
def test_new_labels_and_mended_raw_data_do(store: Store, array: str) -> None:
    assert next_run(store, MONDAY) == UNCHANGED.format("tiny")
    change(store, array)
    run = new_run(store, MONDAY)
    assert run.name == "tiny-20261123-0300"
    assert run.config == load_run(store, "tiny").config
    finish(run)
    assert next_run(store, MONDAY + WEEK) == UNCHANGED.format("tiny-20261123-0300")
    change(store, array)
    assert new_run(store, MONDAY + WEEK).name == "tiny-20261130-0300"


def test_a_template_that_was_never_trained_is_the_first_run(store: Store) -> None:
    configure(store, template="plan")
    add(store, "plan", trainer={"iterations": 3})
    run = new_run(store, MONDAY)
    assert run.config.trainer.iterations == 3
    assert next_run(store, MONDAY + WEEK) == run
    finish(run)
    assert "run plan-20261123-0300 was" in str(next_run(store, MONDAY + WEEK))
    # such a template may be changed
    free = {"workers": 2, "memory": 4.0, "pods": {"checkpoint": {"gpus": 1}}}
    add(store, "plan", trainer={"iterations": 3}, compute=free)
    assert isinstance(next_run(store, MONDAY + WEEK), str)
    add(store, "plan", trainer={"iterations": 5})
    assert new_run(store, MONDAY + WEEK).config.trainer.iterations == 5


def test_asked_twice_it_is_the_same_run(store: Store) -> None:
    change(store)
    first = new_run(store, MONDAY)
    files = {p: p.read_bytes() for p in Path(store.path("runs")).rglob("tiny-*") if p.is_file()}
    promote(load_run(store, "tiny"), anyway=True)
    change(store)
    assert new_run(store, MONDAY) == first
    assert new_run(store, MONDAY.astimezone(ZoneInfo("Asia/Tokyo"))) == first
    assert {p: p.read_bytes() for p in files} == files
    assert run_names(store) == ["tiny", first.name]
    # a process that ended between the record and the file begins anew
    store.remove(f"runs/{first.name}.yaml")
    again = new_run(store, MONDAY)
    assert again.config.start is not None
    assert record_of(again)["start"] == "tiny"


def test_a_run_that_ended_before_its_best_is_gone_on_with(store: Store) -> None:
    change(store)
    run = new_run(store, MONDAY)
    train(run)
    assert new_run(store, MONDAY + WEEK) == run
    being_made = f"^nothing is retrained: run {run.name} is being made: process "
    with Lease(store, f"{run.folder}/train.lock", "it"), pytest.raises(Busy, match=being_made):
        next_run(store, MONDAY + WEEK)
    validate(run)
    assert next_run(store, MONDAY + WEEK) == UNCHANGED.format(run.name)
    store.remove(f"{run.folder}/best.json")
    change(store)
    assert new_run(store, MONDAY + WEEK).name == "tiny-20261130-0300"


def test_another_runs_name_is_not_taken(store: Store) -> None:
    add(store, "tiny-20261123-0300")
    with pytest.raises(SegError, match="tiny-20261123-0300 is there already, and was not made by"):
        next_run(store, MONDAY)


# Where it starts


def test_it_starts_from_the_promoted_run_and_may_take_its_place(store: Store) -> None:
    promote(load_run(store, "tiny"), anyway=True)
    change(store)
    run = new_run(store, MONDAY)
    assert record_of(run) | {"fingerprint": ""} == {
        "template": "tiny",
        "at": "2026-11-23T03:00:00+00:00",
        "start": "tiny",
        "refused": "",
        "fingerprint": "",
    }
    finish(run)
    start = read_start(run)
    assert start is not None
    assert (start.run, start.iteration) == ("tiny", 12)
    assert compare(run, 9).passed
    promote(run)
    assert promoted(store) == run.name
    assert next_run(store, MONDAY + WEEK) == UNCHANGED.format(run.name)
    change(store)
    following = new_run(store, MONDAY + WEEK)
    assert following.config.start is not None
    assert following.config.start.run == run.name


def test_it_starts_from_scratch_where_the_promoted_run_does_not_fit(store: Store) -> None:
    other = add(store, "other", architecture={"features": [4, 6, 10]}, trainer={"iterations": 1})
    promote(finish(other), anyway=True)
    change(store)
    run = new_run(store, MONDAY)
    assert run.config.start is None
    record = record_of(run)
    assert record["start"] is None
    assert record["refused"].endswith(
        "architecture.features is [4, 6, 10] there and [4, 6, 8] here"
    )


# The file


def test_without_the_file_nothing_is_retrained(store: Store) -> None:
    store.remove("retrain.yaml")
    assert load_retrain(store) is None
    assert next_run(store, MONDAY) == f"nothing is retrained: there is no {store.uri}/retrain.yaml"


def test_the_time_in_a_name_is_that_of_the_schedule(store: Store) -> None:
    configure(store, timezone="Asia/Tokyo", tolerance=0.5)
    config = load_retrain(store)
    assert config is not None
    assert (config.timezone, config.tolerance) == ("Asia/Tokyo", 0.5)
    change(store)
    assert new_run(store, MONDAY).name == "tiny-20261123-1200"
    assert new_run(store, datetime(2026, 11, 23, 12)).name == "tiny-20261123-1200"
    assert record_of(load_run(store, "tiny-20261123-1200"))["at"] == "2026-11-23T03:00:00+00:00"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cron": "0 3 * *"}, r"retrain.yaml: cron: expected five fields .*'0 3 \* \* 1'"),
        ({"cron": "0 24 * * *"}, "cron: the hour is '24'; expected 0 to 23 or"),
        ({"timezone": "Europe/Nowhere"}, "timezone: is no time zone; .* .given: 'Europe/Nowhere'"),
        ({"timezone": "../UTC"}, "timezone: is no time zone"),
        ({"tolerance": -1}, "tolerance: input should be greater than or equal to 0"),
        ({"every": "day"}, "every: is no field that is known here"),
        ({"template": "nobody"}, "no run 'nobody'"),
    ],
)
def test_mistakes_are_one_sentence(store: Store, changed: dict[str, Any], message: str) -> None:
    configure(store, **changed)
    with pytest.raises(SegError, match=message) as error:
        next_run(store, MONDAY)
    assert "\n" not in str(error.value)


CRONS = {
    "* * * * *": True,
    "*/5 0-6,12 1 jan,MAR-dec mon-fri": True,
    "0 3 * * 7": True,
    "59 23 31 12 0": True,
    "1-9/2 * * * *": True,
    "": False,
    "60 * * * *": False,
    "* 24 * * *": False,
    "* * 0 * *": False,
    "* * 32 * *": False,
    "* * * 13 *": False,
    "* * * * 8": False,
    "* * * * moon": False,
    "*/0 * * * *": False,
    "*/00 3 * * *": False,
    "5/10 * * * *": True,
    "0 0 29 2 *": True,
    "0 0 31 2-4 *": True,
    "0 0 30 2 *": False,
    "0 0 31 feb 1": False,
    "0 0 30-31 2 *": False,
    "0 0 31 4,6,9,11 *": False,
    "1, * * * *": False,
    "a b c d e": False,
    "* * * * * *": False,
    "* * * *": False,
}


@pytest.mark.parametrize(("text", "expected"), CRONS.items())
def test_cron_strings_are_those_that_the_schedule_takes(text: str, expected: bool) -> None:
    def is_taken(take: Any) -> bool:
        try:
            take()
        except (ValueError, dg.DagsterInvalidDefinitionError):  # of croniter, of Dagster
            return False
        return True

    assert is_taken(lambda: check_cron(text)) is expected
    assert is_taken(lambda: first_tick(text)) is expected


def first_tick(cron: str) -> datetime:
    dg.ScheduleDefinition(job_name="j", cron_schedule=cron)
    return next(schedule_execution_time_iterator(MONDAY.timestamp(), cron, "UTC"))


# The command


def test_the_command(store: Store) -> None:
    def say(*options: str) -> str:
        result = CliRunner().invoke(seg, ["retrain", "--store", store.uri, *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert say() == f"{UNCHANGED.format('tiny')}\n"
    assert json.loads(say("--json")) == {"run": None, "reason": UNCHANGED.format("tiny")}
    change(store)
    promote(load_run(store, "tiny"), anyway=True)
    told = "would be added, from the file of run tiny, starting from run tiny\n"
    assert say("--dry-run").endswith(told)
    assert run_names(store) == ["tiny"]
    made = json.loads(say("--json"))
    assert made["start"] == "tiny"
    assert run_names(store) == ["tiny", made["run"]]
