"""Steps are pods, on a real cluster: the same bytes as in one process, and logs that stay."""

from pathlib import Path

import pytest
from cluster import Cluster
from comparison import assert_same_bytes, records_of
from dagster_client import TRAINING, Client
from dagster_dev import wait_for
from deployment import Deployment
from runs import RUNS

pytestmark = pytest.mark.k8s


def test_a_segmentation_made_by_pods_has_the_same_bytes(
    cluster: Cluster, deployment: Deployment, client: Client, faultless: Path
) -> None:
    assert client.run(TRAINING, {"partition": "tiny"})[0] == "SUCCESS"
    made = client.run(("prediction", "fragments"), client.all_blocks("prediction", "tiny"))
    assert made[0] == "SUCCESS"
    assert client.run("lut", {"partition": "tiny"})[0] == "SUCCESS"
    number = client.launch("segmentation", client.all_blocks("segmentation", "tiny"))
    assert client.wait(number) == "SUCCESS"
    assert len(records_of(deployment, "tiny")) == 3 * 20
    assert_same_bytes(
        deployment,
        faultless / "runs/tiny/phantom/segmentation.zarr",
        "runs/tiny/phantom/segmentation.zarr",
    )

    cluster.kubectl("delete", "pods", "-l", f"dagster/run-id={number}")
    assert "segmentation phantom" in client.printed(number)  # the progress bar


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("cuda", "compute.device is cuda), but this deployment gives it none"),
        ("vast", "asks for 101 GB of memory, but the largest node gives a pod 16"),
    ],
)
def test_what_cannot_fit_is_refused_before_any_pod(
    cluster: Cluster, client: Client, run: str, sentence: str
) -> None:
    number = client.launch("checkpoint", {"partition": run})
    assert client.wait(number) == "FAILURE"
    assert any(sentence in event.get("message", "") for event in client.events(number))
    assert cluster.get("jobs", "-l", f"dagster/run-id={number}")["items"] == []


def test_a_users_package_reaches_the_pods_by_two_lines(
    own_image: str, deployment: Deployment, client: Client, tmp_path: Path
) -> None:
    own = RUNS["tiny"].replace("warm_up: 2", "warm_up: 2, augment: [{kind: 'own:Still'}]")
    (tmp_path / "store/runs").mkdir(parents=True)
    (tmp_path / "store/runs/own.yaml").write_text(own)
    deployment.put(tmp_path / "store")
    deployment.use(own_image)
    wait_for("the new run", lambda: "own" in client.runs("checkpoint"))
    assert client.run(TRAINING[:2], {"partition": "own"})[0] == "SUCCESS"
    assert b"own:Still" in deployment.fetch("runs/own")["run.json"]
