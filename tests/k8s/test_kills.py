"""Pods die, and so does the store on gs://, behind a bad network: every block is made once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gcs_server
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
from deployment import ON_GCS, Deployment
from kills import STEP, WORKER, Killer
from runs import RUNS
from tiny_run import BLOCK, make_volume

from seg_core.run import add_run
from seg_core.store import Store

pytestmark = pytest.mark.k8s


@pytest.fixture
def on_gcs(
    cluster: Cluster, gcs_image: None, begun: Deployment, tmp_path: Path
) -> Iterator[Deployment]:
    """The deployment with its store on gs://, and in it a volume and a run, nothing made."""
    if begun.overlay != ON_GCS:
        begun.become(ON_GCS)
    cluster.kubectl("rollout", "status", "deployment/gcs", "--timeout=120s")
    store = Store(str(tmp_path / "store"))
    make_volume(store, raw_chunk=BLOCK)  # few objects: the rest of the bytes is the same
    add_run(store, "long", RUNS["long"].encode(), "long.yaml")
    # the tests themselves have a good network
    with cluster.forward(4443, "deployment/gcs") as url, gcs_server.reached_at(url):
        gcs_server.make_bucket(url)
        begun.bucket = Store(f"gs://{gcs_server.BUCKET}/store")
        begun.put(Path(store.uri))
        begun.load("phantom/prediction")
        yield begun
    begun.bucket = None  # its server stays: what ends now may still ask it


def test_three_kills_of_pods_and_one_of_the_store(
    cluster: Cluster, faultless: Path, on_gcs: Deployment
) -> None:
    killer, client = Killer(cluster), Client(on_gcs, "phantom")
    wait_for("the sensor to see the run", lambda: client.partitions("prediction"))
    number = client.launch(TRAINING, {"partition": "long"})
    wait_for("training", lambda: "train.lock" in on_gcs.fetch("runs/long"))
    killer.delete(STEP)
    assert client.wait(number) == "SUCCESS"
    assert_same_bytes(on_gcs, faultless / "runs/long/checkpoints", "runs/long/checkpoints")
    assert "validate" in client.printed(number)

    partitions = [key for key in client.partitions("prediction") if key.endswith("|long")]
    backfill = client.launch_backfill("prediction", partitions)
    before = wait_for("the first blocks", lambda: records_of(on_gcs, "long"), seconds=240)
    killer.kill(WORKER)
    killer.kill("gcs", container="server")
    wait_for("more blocks", lambda: len(records_of(on_gcs, "long")) > len(before) + 1)
    killer.stop_postgres(3)
    assert_made_once(on_gcs, client, backfill, "long")
    after = records_of(on_gcs, "long")
    assert {name: after[name] for name in before} == before
    path = "runs/long/phantom/prediction.zarr"
    assert_same_bytes(on_gcs, faultless / path, path)
    assert_nothing_is_left(cluster)

    injected = cluster.kubectl("logs", "deployment/gcs", "-c", "network").decode().splitlines()
    kinds = Counter(line.split()[0] for line in injected)
    assert kinds["503"] > 5
    assert set(kinds) >= {"reset", "cut", "lost", "silent"}
