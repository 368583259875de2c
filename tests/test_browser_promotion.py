"""Years of it in the browser, in order: promoted, retrained, refused, rolled back, removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster_client import Client
from dagster_dev import DagsterDev, wait_for
from dagster_pages import Pages, opened
from tiny_project import add, copy_of, finish
from webhook_receiver import receiver

from seg_core.lifecycle.promotion import promoted
from seg_core.run import run_names
from seg_core.store import Store
from seg_core.volumes.ome_zarr import open_array

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def store(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that is validated, which a schedule retrains every minute where something changed."""
    store = copy_of(project, tmp_path_factory.mktemp("store"))
    retrain(store, tolerance=10)
    return store


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, Told]]:
    with receiver() as server:
        yield server


@pytest.fixture(scope="module")
def client(
    store: Store, told: tuple[str, Told], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    dagster = DagsterDev(tmp_path_factory.mktemp("dagster"), store.uri)
    dagster.environment["SEG_WEBHOOK"] = told[0]
    with dagster:
        yield Client(dagster, "phantom")


@pytest.fixture(scope="module")
def pages(client: Client) -> Iterator[Pages]:
    with opened(client.dagster, "promotion") as pages:
        yield pages


def test_a_run_is_promoted(pages: Pages, client: Client, store: Store) -> None:
    assert promote(pages, client, "tiny", sure=True) == "Success"
    assert promoted(store) == "tiny"
    pages.asset("promotion", "partitions", "tiny")
    pages.sees("Materialized (1)")
    pages.picture("promoted")


def test_other_labels_are_retrained_by_the_schedule(
    pages: Pages, store: Store, told: tuple[str, Told]
) -> None:
    assert run_names(store) == ["tiny"]
    labels = open_array(store.path("volumes/phantom/labels.zarr"))
    values = labels.read(labels.box)
    values[0] = 0
    labels.write(labels.box, values)
    wait_for("the schedule's run to be promoted", lambda: promoted(store) != "tiny", seconds=400)
    (new,) = set(run_names(store)) - {"tiny"}
    assert promoted(store) == new
    assert told[1] == []
    pages.page.goto(f"{pages.address}/locations/__repository__@seg/schedules/retrain")
    pages.page.get_by_text("Every minute").first.wait_for()
    pages.picture("schedule")
    pages.asset("promotion", "checks")
    pages.page.get_by_text("no_regression").first.wait_for()
    pages.picture("checks")


def test_a_worse_run_is_refused_and_told(
    pages: Pages, client: Client, store: Store, told: tuple[str, Told]
) -> None:
    retrain(store, tolerance=0)
    before = promoted(store)
    finish(add(store, "worse", trainer={"learning_rate": 1e-9}))
    assert promote(pages, client, "worse") == "Failure"
    assert promoted(store) == before
    assert [(t["event"], t["run"]) for t in told[1]] == [("not_promoted", "worse")]
    pages.page.get_by_text("run worse is not promoted").first.wait_for()


def test_roll_back(pages: Pages, store: Store) -> None:
    pages.launchpad("roll_back")
    assert pages.launch_job() == "Success"
    assert promoted(store) == "tiny"


def test_runs_are_removed_but_not_the_promoted_one(pages: Pages, store: Store) -> None:
    assert remove(pages, "worse") == "Success"
    pages.page.get_by_text("run worse: freed").first.wait_for()
    assert "worse" not in run_names(store)
    assert remove(pages, "tiny") == "Failure"
    assert "tiny" in run_names(store)


def retrain(store: Store, tolerance: float) -> None:
    content = {"template": "tiny", "cron": "* * * * *", "tolerance": tolerance}
    store.write_bytes("retrain.yaml", yaml.safe_dump(content).encode())


def promote(pages: Pages, client: Client, run: str, *, sure: bool = False) -> str:
    """From the page of the asset; returns how it ended.

    Args:
        sure: to say so, as Dagster asks while it knows of no scores at all.
    """
    wait_for("the sensor", lambda: any(run in key for key in client.partitions("prediction")))
    pages.asset("promotion", "partitions", run)
    pages.open_dialog()
    if sure:
        pages.confirm()
    pages.launch()
    return pages.follow()


def remove(pages: Pages, run: str) -> str:
    pages.launchpad("remove_run")
    pages.write(f"ops: {{remove: {{config: {{run: {run}, archive: false, dry_run: false}}}}}}")
    return pages.launch_job()
