"""Steps that wait, that may not start, and that are to stop."""

from typing import Any

import pytest
from cluster import PROJECT, Cluster
from dagster_client import Client
from dagster_dev import wait_for
from deployment import Deployment

pytestmark = pytest.mark.k8s

FAILED = "failureMetadata"
PENDING = 15  # seconds
USUAL = (PROJECT / "k8s/base/pods.yaml").read_text()


@pytest.fixture(scope="module")
def gpus(cluster: Cluster, deployment: Deployment, client: Client) -> Any:
    """The deployment says that its node has a GPU, which is not so yet."""
    splits = [client.launch("datasplit", {"partition": name}) for name in ("other", "third")]
    settings = USUAL.replace("gpus: 0", "gpus: 1").replace("300", str(PENDING))
    deployment.configure(SEG_PODS=settings + "gpu: {count: 1}\n")
    assert [client.wait(number) for number in splits] == ["SUCCESS", "SUCCESS"]
    yield
    cluster.offer_gpus(0)  # the rest goes with the deployment, of which these tests are the last


@pytest.fixture(scope="module")
def forbidden(gpus: None, client: Client) -> str:
    """A dagster run whose step no admission lets in; it has its time beside the first test."""
    config = {"datasplit": {"pod_spec_config": {"host_network": True}}}
    run_config = {"execution": {"config": {"per_step_k8s_config": config}}}
    return client.launch("datasplit", {"partition": "other"}, run_config)


def reasons(client: Client, number: str) -> str:
    failures = [event["failureMetadata"] for event in client.events(number) if FAILED in event]
    return " ".join(str(failure["description"]) for failure in failures if failure)


def steps_of(cluster: Cluster, number: str) -> list[Any]:
    return cluster.pods(f"dagster/run-id={number},app.kubernetes.io/component=step_worker")


@pytest.mark.usefixtures("gpus", "forbidden")
def test_gpu_steps_wait_in_the_queue_and_fail_with_the_reason_where_none_comes(
    cluster: Cluster, client: Client
) -> None:
    first = client.launch("checkpoint", {"partition": "other"})
    (pod,) = wait_for("its pod", lambda: steps_of(cluster, first))
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"

    second = client.launch("checkpoint", {"partition": "third"})
    assert client.wait(first) == "FAILURE"
    why = reasons(client, first)
    assert f"could not start within {PENDING} s" in why
    assert "Insufficient nvidia.com/gpu" in why
    pods = f"dagster/run-id={first}"
    wait_for("the end of its pods", lambda: not cluster.pods(pods, "Pending", "Running"))

    cluster.offer_gpus(1)
    assert client.wait(second) == "SUCCESS"
    assert "Insufficient" not in reasons(client, second)


@pytest.mark.usefixtures("gpus")
def test_a_second_run_waits_as_a_run_and_not_as_a_pod(cluster: Cluster, client: Client) -> None:
    cluster.offer_gpus(1)
    first = client.launch("checkpoint", {"partition": "endless"})
    wait_for("the first one's step", lambda: steps_of(cluster, first))
    second = client.launch("checkpoint", {"partition": "third"})
    wait_for("the queue", lambda: client.status(second) == "QUEUED")
    assert cluster.pods(f"dagster/run-id={second}") == []
    client.terminate(second)
    assert cluster.pods(f"dagster/run-id={second}") == []
    client.terminate(first)
    assert client.wait(first) == "CANCELED"


def test_a_forbidden_step_fails_with_the_reason(client: Client, forbidden: str) -> None:
    assert client.wait(forbidden) == "FAILURE"
    assert f"could not start within {PENDING} s" in reasons(client, forbidden)
    assert "violates PodSecurity" in reasons(client, forbidden)


def test_a_cancelled_run_leaves_no_pod_though_its_worker_was_resumed(
    cluster: Cluster, deployment: Deployment, client: Client
) -> None:
    number = client.launch(("datasplit", "checkpoint"), {"partition": "endless"})
    worker = f"dagster/run-id={number},app.kubernetes.io/component=run_worker"
    wait_for("training", lambda: "train.lock" in deployment.inside("ls /store/runs/endless"))
    (first,) = cluster.pods(worker)
    cluster.kubectl("delete", "pod", first["metadata"]["name"], "--grace-period=0", "--force")
    wait_for(
        "another worker",
        lambda: [p for p in cluster.pods(worker, "Running") if p["metadata"] != first["metadata"]],
    )

    client.terminate(number)

    pods = f"dagster/run-id={number}"
    wait_for("the end of all pods", lambda: not cluster.pods(pods), seconds=30)
    assert client.wait(number) == "CANCELED"
    assert cluster.get("jobs", "-l", pods)["items"] == []
    kept = deployment.inside("ls /store/runs/endless /store/runs/endless/checkpoints")
    assert "state.safetensors" in kept
    assert "train.lock" not in kept
