"""Blocks as steps of Dagster, each run and each step with a pod of its own: seconds and CPU."""

import json
import statistics
import threading
import time
from typing import Any

from cluster import Cluster, setting
from comparison import records_of
from dagster_client import Client
from deployment import Deployment

from contexts.measurements import DagsterRun
from contexts.measuring import RUN

ASSET, SINGLE = "prediction", 3
ACCOUNTS = (
    "find /sys/fs/cgroup/cpuacct/ -path '*/kubepods/*' -name cpuacct.usage "
    "-path '*/pod*' ! -path '*/pod*/*/*' -exec grep -H . {} +"
)
"""On a node with control groups of version 1: nanoseconds of every pod that lives."""


class PodCpu:
    """Looks again and again at the CPU time of all pods, as it is lost when a pod has ended."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seconds: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "PodCpu":
        if setting("SEG_K8S_NODE"):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident:
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            found = self.cluster.on_node("sh", "-c", f"{ACCOUNTS} 2>/dev/null || true")
            for line in found.splitlines():
                path, _, nanoseconds = line.rpartition(":")
                self.seconds[path.split("/pod")[-1].split("/")[0]] = int(nanoseconds) / 1e9

    def of(self, pods: list[Any]) -> float | None:
        """Seconds of some pods together; None where any was not seen."""
        found = [self.seconds.get(pod["metadata"]["uid"]) for pod in pods]
        return None if None in found or not found else sum(s for s in found if s is not None)


def dagster_runs(deployment: Deployment, client: Client) -> list[DagsterRun]:
    """Single blocks, each in a run of its own (their median), and all others in one run."""
    keys = [key for key in client.partitions(ASSET) if key.endswith(f"|{RUN}")]
    single = [_run(deployment, client, _range(key, key)) for key in keys[:SINGLE]]
    median = statistics.median_low(run.seconds - run.in_blocks for run in single)
    return [
        next(run for run in single if run.seconds - run.in_blocks == median),
        _run(deployment, client, _range(keys[0], keys[-1])),
    ]


def _range(first: str, last: str) -> dict[str, str]:
    return {"asset_partition_range_start": first, "asset_partition_range_end": last}


def _run(deployment: Deployment, client: Client, tags: dict[str, str]) -> DagsterRun:
    before = _seconds_of_blocks(deployment)
    with PodCpu(deployment.cluster) as cpu:
        began = time.monotonic()
        number = client.launch(ASSET, tags)
        status = client.wait(number)
        seconds = time.monotonic() - began
    if status != "SUCCESS":
        raise RuntimeError(f"dagster run {number} of {tags}: {status}")
    after = _seconds_of_blocks(deployment)
    made = [after[key] for key in after if key not in before]
    used = cpu.of(deployment.cluster.pods(f"dagster/run-id={number}"))
    return DagsterRun(len(made), seconds, sum(made), used)


def _seconds_of_blocks(deployment: Deployment) -> dict[str, float]:
    records = records_of(deployment, RUN)
    return {key: json.loads(text)["figures"]["seconds"] for key, text in records.items()}
