"""Steps are pods, on a real cluster: the same bytes as in one process, and logs that stay."""

from pathlib import Path

import pytest
from cluster import Cluster
from comparison import assert_same_bytes, records_of
from dagster_client import TRAINING, Client
from deployment import Deployment

pytestmark = pytest.mark.k8s


def test_a_segmentation_made_by_pods_has_the_same_bytes(
    cluster: Cluster, deployment: Deployment, client: Client, faultless: Path
) -> None:
    """With a class of a user's own, which is in the image by two lines on top of ours."""
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

    assert b"own:Still" in deployment.fetch("runs/tiny")["run.json"]

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
