"""Pods die, and every block is made once, by itself, with the same bytes."""

from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from comparison import (
    assert_made_once,
    assert_nothing_is_left,
    assert_same_bytes,
    records_of,
)
from dagster_client import TRAINING, Client
from dagster_dev import wait_for
from deployment import Deployment
from kills import STEP, WORKER, Killer

pytestmark = pytest.mark.k8s


@pytest.fixture
def killer(cluster: Cluster) -> Any:
    killer = Killer(cluster)
    yield killer
    print("\n".join(killer.log))


def test_three_kills(
    cluster: Cluster, deployment: Deployment, client: Client, faultless: Path, killer: Killer
) -> None:
    number = client.launch(TRAINING, {"partition": "long"})
    wait_for("training", lambda: "train.lock" in deployment.inside("ls /store/runs/long"))
    killer.delete(STEP)
    assert client.wait(number) == "SUCCESS"
    assert_same_bytes(deployment, faultless / "runs/long/checkpoints", "runs/long/checkpoints")

    partitions = [key for key in client.partitions("prediction") if key.endswith("|long")]
    backfill = client.launch_backfill("prediction", partitions)
    before = wait_for("the first blocks", lambda: records_of(deployment, "long"), seconds=240)
    killer.kill(WORKER, STEP)
    wait_for("more blocks", lambda: len(records_of(deployment, "long")) > len(before) + 1)
    killer.stop_postgres(3)
    assert_made_once(deployment, client, backfill, "long")
    after = records_of(deployment, "long")
    assert {name: after[name] for name in before} == before
    path = "phantom/prediction.zarr"
    assert_same_bytes(deployment, faultless / f"runs/long/{path}", f"runs/long/{path}")
    assert_nothing_is_left(cluster)
