"""Only what failed is made again: 20 blocks, 3 of them unreadable, under a real `dagster dev`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_client import Client
from dagster_dev import DagsterDev, wait_for
from tiny_project import copy_of
from tiny_run import files_of, middle_chunk, unreadable

from seg_core.store import Store

pytestmark = pytest.mark.slow

BAD = ["z0001y0000x0001", "z0003y0001x0000", "z0003y0001x0001"]  # two are neighbours
PARTITIONS = [f"{key}|tiny" for key in BAD]
BY_BLOCK = ["prediction", "fragments", "segmentation"]

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def store(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that is trained and validated, and has done nothing yet."""
    return copy_of(finished, tmp_path_factory.mktemp("store"), "runs/tiny/phantom")


@pytest.fixture(scope="module")
def faultless(finished: Path) -> dict[str, bytes]:
    """The segmentation that `seg_core` alone made of the same weights, without faults."""
    return segmentation_of(Store(str(finished)))


@pytest.fixture(scope="module")
def client(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with DagsterDev(tmp_path_factory.mktemp("dagster"), store.uri) as dagster:
        client = Client(dagster, "phantom")
        wait_for("the sensor to see the run", lambda: client.partitions("prediction"))
        yield client


def test_only_what_failed_is_made_again(
    store: Store, faultless: dict[str, bytes], client: Client
) -> None:
    with unreadable(store, BAD):
        status, runs = client.backfill("prediction", client.partitions("prediction"))
        assert (status, len(runs)) == ("COMPLETED_FAILED", 1)
        assert (client.counts("prediction"), client.failed("prediction")) == ((17, 3), PARTITIONS)
        assert_every_reason_is_told(client.events(runs[0]), store)
        assert client.run_blocks("fragments", "tiny")[0] == "FAILURE"
        assert (client.counts("fragments"), client.failed("fragments")) == ((17, 3), PARTITIONS)
        status, events = client.run("lut", {"partition": "tiny"})
        assert status == "FAILURE"
        assert re.findall(r"z\d+y\d+x\d+", failure_of(events)) == BAD

    made = made_in(store, "prediction")
    status, runs = client.backfill("prediction", client.failed("prediction"))
    assert (status, len(runs)) == ("COMPLETED_SUCCESS", 2)  # one of them for the neighbours
    assert changes(made, made_in(store, "prediction")) == set(BAD)
    made = made_in(store, "fragments")
    assert client.run_blocks("fragments", "tiny")[0] == "SUCCESS"
    assert changes(made, made_in(store, "fragments")) == set(BAD)
    assert client.run("lut", {"partition": "tiny"})[0] == "SUCCESS"
    assert client.run_blocks("segmentation", "tiny")[0] == "SUCCESS"
    for asset in BY_BLOCK:
        assert client.counts(asset) == (20, 0)
    assert segmentation_of(store) == faultless


def test_asked_for_again_nothing_is_made(store: Store, client: Client) -> None:
    before = files_of(store, "tiny")
    assert {f"blocks/{asset}/{BAD[0]}.json" for asset in BY_BLOCK} < set(before)
    for asset in BY_BLOCK:
        status, events = client.run_blocks(asset, "tiny")
        assert status == "SUCCESS"
        assert len(materialized(events)) == 20
    assert client.run("lut", {"partition": "tiny"})[0] == "SUCCESS"
    assert files_of(store, "tiny") == before


def assert_every_reason_is_told(events: Events, store: Store) -> None:
    """In the failure of the step, and in a line of the log as each block failed."""
    lines = [e["message"] for e in events if e["__typename"] == "LogMessageEvent"]
    for block, partition in zip(BAD, PARTITIONS, strict=True):
        chunk = str(middle_chunk(store, block))
        assert any(line.startswith(f"{partition} failed") and chunk in line for line in lines)
        assert re.search(f"{re.escape(partition)}: [^;]*{re.escape(chunk)}", failure_of(events))


def failure_of(events: Events) -> str:
    """Why the step failed."""
    (failure,) = (e for e in events if e["__typename"] == "ExecutionStepFailureEvent")
    return str(failure["failureMetadata"]["description"])


def materialized(events: Events) -> list[str]:
    return [e["partition"] for e in events if e["__typename"] == "MaterializationEvent"]


def made_in(store: Store, step: str) -> dict[str, tuple[int, bytes]]:
    """The records of a step's blocks, with when each was written."""
    start = f"blocks/{step}/"
    found = files_of(store, "tiny")
    return {k.removeprefix(start)[:-5]: v for k, v in found.items() if k.startswith(start)}


def changes(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {key for key in now if now[key] != before.get(key)}


def segmentation_of(store: Store) -> dict[str, bytes]:
    """Every file of the final array."""
    found = files_of(store, "tiny")
    return {k: content for k, (_, content) in found.items() if k.startswith("segmentation.zarr")}
