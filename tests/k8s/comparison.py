"""What pods made against what one process made, and what they left behind."""

import json
from pathlib import Path

from cluster import Cluster
from dagster_client import Client
from dagster_dev import wait_for
from deployment import Deployment


def assert_same_bytes(deployment: Deployment, expected: Path, path: str) -> None:
    """Every file below a path of the store is as it is in a folder here."""
    files = (file for file in sorted(expected.rglob("*")) if file.is_file())
    wanted = {str(file.relative_to(expected)): file.read_bytes() for file in files}
    assert wanted
    found = deployment.fetch(path)
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


def records_of(deployment: Deployment, run: str) -> dict[str, bytes]:
    """Records of a run's blocks that are done: a block made again has other seconds."""
    found = deployment.fetch(f"runs/{run}/phantom/blocks")
    records = {name: text for name, text in found.items() if name.count("/") == 1}
    return {
        name: text
        for name, text in records.items()
        if name.endswith(".json") and json.loads(text)["state"] == "done"
    }


def assert_made_once(
    deployment: Deployment, client: Client, backfill: str, run: str, seconds: float = 300
) -> None:
    """Wait for the end of a backfill: it succeeds, and no block that was done is made again."""
    seen = records_of(deployment, run)

    def ended() -> str | None:
        now = records_of(deployment, run)
        again = [name for name in seen if now.get(name) != seen[name]]
        assert not again, f"made again, or lost: {again}"
        seen.update(now)
        return client.backfill_status(backfill)

    assert wait_for(f"backfill {backfill}", ended, seconds) == "COMPLETED_SUCCESS"


def assert_nothing_is_left(cluster: Cluster) -> None:
    """No pod of a step or run lives, and no Job waits for one."""
    pods = "app.kubernetes.io/component in (step_worker,run_worker)"
    wait_for("the end of all pods", lambda: not cluster.pods(pods, "Pending", "Running"))
    wait_for(
        "the end of all Jobs",
        lambda: not any(job["status"].get("active") for job in cluster.get("jobs")["items"]),
    )
