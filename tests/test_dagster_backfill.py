"""One backfill makes what is failed, missing or stale, by hand or by the sensor: real daemon."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_client import Client
from dagster_dev import PROJECT, DagsterDev, wait_for
from tiny_project import copy_of
from tiny_run import files_of, unreadable

from seg_assets.automation import TRIES
from seg_core.blockwise.engine import Options
from seg_core.errors import BlocksFailed
from seg_core.parameters import set_parameters
from seg_core.run import load_run
from seg_core.segment import lut_of_volume, predict_volume
from seg_core.states import states_of
from seg_core.store import Store
from seg_core.volumes.declared import load_volume

pytestmark = pytest.mark.slow

BAD = "z0002y0000x0001"


@pytest.fixture(scope="module")
def store(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return copy_of(finished, tmp_path_factory.mktemp("store"), "runs/tiny/phantom")


@pytest.fixture(scope="module")
def client(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with DagsterDev(tmp_path_factory.mktemp("dagster"), store.uri) as dagster:
        client = Client(dagster, "phantom")
        wait_for("the sensor to see the run", lambda: client.partitions("prediction"))
        yield client


def test_the_command_makes_exactly_what_is_due(store: Store, client: Client) -> None:
    run, volume = load_run(store, "tiny"), load_volume(store, "phantom")
    with unreadable(store, [BAD]), pytest.raises(BlocksFailed):
        predict_volume(run, volume, None, Options())
    made = made_in(store, "prediction")
    status, runs = client.ended(start(client))
    assert status == "COMPLETED_SUCCESS"
    assert len(runs) == 5  # a dagster run for each asset
    assert {k for k, v in made_in(store, "prediction").items() if v != made[k]} == {BAD}
    assert {s.state for of in states_of(run, volume).values() for s in of.values()} == {"done"}
    before = files_of(store, "tiny")
    assert "nothing is due" in command(client)
    assert files_of(store, "tiny") == before


def test_the_sensor_ends_when_a_block_always_fails(store: Store, client: Client) -> None:
    run, volume = load_run(store, "tiny"), load_volume(store, "phantom")
    with unreadable(store, [BAD]):
        for _ in range(TRIES - 1):
            with pytest.raises(BlocksFailed):
                predict_volume(run, volume, [BAD], Options())
        client.switch("backfill_failed_blocks", on=True)
        (backfill,) = wait_for("a backfill", client.backfills_of_sensor, seconds=120)
        assert client.ended(backfill)[0] == "COMPLETED_FAILED"
        told = f"tiny on phantom: 1 block(s) failed {TRIES} times and are left alone"
        wait_for("the sensor to give up", lambda: told in client.tick("backfill_failed_blocks"))
        assert client.backfills_of_sensor() == [backfill]
        client.switch("backfill_failed_blocks", on=False)
    record = states_of(run, volume)["prediction"][BAD].record
    assert (record.tries, "cannot be read" in record.error) == (TRIES, True)
    assert client.ended(start(client))[0] == "COMPLETED_SUCCESS"  # mended, and asked for by hand


def test_the_sensor_brings_blocks_up_to_a_new_table(store: Store, client: Client) -> None:
    run, volume = load_run(store, "tiny"), load_volume(store, "phantom")
    set_parameters(run, volume, {"threshold": 0.95})
    lut_of_volume(run, volume)
    behind = {k for k, s in states_of(run, volume)["segmentation"].items() if s.state == "stale"}
    assert behind
    known, made = client.backfills_of_sensor(), made_in(store, "segmentation")
    client.switch("backfill_failed_blocks", on=True)
    found = wait_for("a backfill", lambda: set(client.backfills_of_sensor()) - set(known), 120)
    client.switch("backfill_failed_blocks", on=False)
    assert client.ended(*found)[0] == "COMPLETED_SUCCESS"
    assert {k for k, v in made_in(store, "segmentation").items() if v != made[k]} == behind
    assert {s.state for of in states_of(run, volume).values() for s in of.values()} == {"done"}


def start(client: Client) -> str:
    """The backfill that the command started."""
    said = command(client)
    assert "started" in said, said
    return said.split()[1]


def command(client: Client) -> str:
    """`python -m seg_assets backfill`, on the instance of the running `dagster dev`."""
    return subprocess.run(
        [sys.executable, "-m", "seg_assets", "backfill", "tiny", "phantom"],
        cwd=PROJECT,
        env={**os.environ, **client.dagster.environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def made_in(store: Store, step: str) -> dict[str, Any]:
    start = f"blocks/{step}/"
    return {
        k[len(start) : -5]: v for k, v in files_of(store, "tiny").items() if k.startswith(start)
    }
