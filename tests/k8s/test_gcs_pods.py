"""The store on gs://, for pods: a server in the cluster that fails as networks and buckets do."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gcs_server
import pytest
from cluster import PROJECT, Cluster
from comparison import assert_nothing_is_left, assert_same_bytes, records_of
from dagster_client import TRAINING, Client
from dagster_dev import wait_for
from deployment import OVERLAY, PARTS, Deployment
from kills import Killer
from runs import RUNS
from tiny_run import make_volume

from seg_core.run import add_run
from seg_core.store import Store

pytestmark = pytest.mark.k8s

GCS = PROJECT / "tests/k8s/gcs"
MAKE_BUCKET = """
from gcsfs import GCSFileSystem
GCSFileSystem(token="anon").mkdir("bucket")
"""


@pytest.fixture
def on_gcs(
    cluster: Cluster, image: str, deployment: Deployment, tmp_path: Path
) -> Iterator[Deployment]:
    """The deployment with its store on gs://, and in it a volume and a run, nothing made."""
    build = tmp_path / "build"
    build.mkdir()
    shutil.copy(gcs_server.binary(), build / "fake-gcs-server")
    for file in (PROJECT / "tests/faulty_proxy.py", GCS / "bad_network.py", GCS / "Dockerfile"):
        shutil.copy(file, build)
    cluster.build(build, build / "Dockerfile", "localhost/seg:gcs")

    cluster.kubectl("apply", "-k", str(GCS))
    cluster.kubectl("rollout", "restart", *(f"deployment/{part}" for part in PARTS))
    cluster.kubectl("rollout", "status", "deployment/gcs", "--timeout=120s")
    deployment.wait()
    deployment.on_gcs = True
    deployment.python(MAKE_BUCKET)
    store = Store(str(tmp_path / "store"))
    make_volume(store)
    add_run(store, "tiny", RUNS["tiny"].encode(), "tiny.yaml")
    deployment.put(Path(store.uri))
    deployment.load("phantom/prediction")
    yield deployment
    deployment.on_gcs = False
    cluster.kubectl("delete", "deployment/gcs", "service/gcs", "--wait=false")
    cluster.kubectl("apply", "-k", str(OVERLAY))
    cluster.kubectl("rollout", "restart", *(f"deployment/{part}" for part in PARTS))
    deployment.wait()


def test_the_same_bytes_on_gs_though_the_network_is_bad_and_the_server_dies(
    cluster: Cluster, on_gcs: Deployment, client: Client, faultless: Path
) -> None:
    assert client.run(TRAINING, {"partition": "tiny"})[0] == "SUCCESS"
    keys = [key for key in client.partitions("prediction") if key.endswith("|tiny")]
    backfill = client.launch_backfill("prediction", keys)
    before = wait_for("the first blocks", lambda: records_of(on_gcs, "tiny"))
    Killer(cluster).kill("gcs", container="server")
    assert client.ended(backfill)[0] == "COMPLETED_SUCCESS"
    after = records_of(on_gcs, "tiny")
    assert {name: after[name] for name in before} == before  # not made again
    for asset in ("fragments", "lut"):
        tags = {"partition": "tiny"} if asset == "lut" else client.all_blocks(asset, "tiny")
        assert client.run(asset, tags)[0] == "SUCCESS"
    number = client.launch("segmentation", client.all_blocks("segmentation", "tiny"))
    assert client.wait(number) == "SUCCESS"
    for asset in ("prediction", "segmentation"):
        path = f"runs/tiny/phantom/{asset}.zarr"
        assert_same_bytes(on_gcs, faultless / path, path)

    injected = cluster.kubectl("logs", "deployment/gcs", "-c", "network").decode().splitlines()
    kinds = Counter(line.split()[0] for line in injected)
    assert kinds["503"] > 5
    assert set(kinds) >= {"reset", "cut", "lost", "silent"}

    assert_nothing_is_left(cluster)
    cluster.kubectl("delete", "pods", "-l", f"dagster/run-id={number}")
    assert "segmentation phantom" in client.printed(number)
