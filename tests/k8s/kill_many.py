"""`make test-k8s-kills N=20 SEED=1`: random kills at random moments, until all N are done.

Runs go the whole path, one after the other, each step as a backfill, every second one with two
processes in its pods; nobody helps. The log of kills is kept in `.local/kills.log`.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import PROJECT, Cluster
from comparison import assert_made_once, assert_nothing_is_left, assert_same_bytes
from dagster_client import Client
from dagster_dev import wait_for
from deployment import Deployment
from kills import STEP, Killer
from runs import RUNS

pytestmark = pytest.mark.k8s

LOG = PROJECT / ".local/kills.log"
N, SEED = int(os.environ.get("N", "20")), int(os.environ.get("SEED", "1"))
EVERY = (25, 60)  # seconds between kills: a run worker is looked at every 15 s
WORKED = (0, 12)  # seconds that a step has when it is killed: half of them start Python
BY_RUN = ("datasplit", "checkpoint", "validation_scores")
PATH = (*BY_RUN, "prediction", "fragments", "lut", "segmentation")


class Kills:
    """N kills of random kinds at random moments, in a thread."""

    def __init__(self, killer: Killer) -> None:
        self.killer, self.random = killer, random.Random(SEED)
        self.over, self.stop = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._go, daemon=True)

    def _go(self) -> None:
        ways = self.killer.ways()
        try:
            for number in range(N):
                if self.stop.wait(self.random.uniform(*EVERY)):
                    return
                name = self.random.choice(sorted(ways))
                self.killer.note(f"kill {number + 1} of {N}: {name}")
                if name.startswith(("step", "run")):
                    self._let_a_step_work()
                ways[name]()
        except Exception as error:
            self.error = error
        finally:
            self.over.set()

    def _let_a_step_work(self) -> None:
        """For a moment of its life, and not always the first."""
        self.killer.one(STEP)
        self.stop.wait(self.random.uniform(*WORKED))


@contextmanager
def kills(cluster: Cluster) -> Iterator[Kills]:
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        print(f"N={N} SEED={SEED}", file=log)
        under_way = Kills(Killer(cluster, log))
        under_way.thread.start()
        try:
            yield under_way
        finally:
            under_way.stop.set()
            under_way.thread.join()


def test_every_block_is_made_once_whatever_is_killed(
    cluster: Cluster, deployment: Deployment, client: Client, faultless: Path, tmp_path: Path
) -> None:
    runs: list[str] = []
    with kills(cluster) as under_way:
        while not under_way.over.is_set():
            runs.append(f"killed-{len(runs)}")
            under_way.killer.note(f"run {runs[-1]} begins")
            content = RUNS["long" if len(runs) % 2 else "pair"]
            add_run(deployment, client, tmp_path / runs[-1], runs[-1], content)
            for asset in PATH:
                keys = [runs[-1]] if asset in (*BY_RUN, "lut") else None
                keys = keys or [k for k in client.partitions(asset) if k.endswith(f"|{runs[-1]}")]
                backfill = client.launch_backfill(asset, keys)
                assert_made_once(deployment, client, backfill, runs[-1], seconds=900)
                under_way.killer.note(f"{asset} of {runs[-1]}: made")
        assert under_way.error is None
    for run in runs:
        for asset in ("prediction", "segmentation"):
            path = f"phantom/{asset}.zarr"
            assert_same_bytes(deployment, faultless / "runs/long" / path, f"runs/{run}/{path}")
    assert_nothing_is_left(cluster)


def add_run(deployment: Deployment, client: Client, folder: Path, name: str, content: str) -> None:
    (folder / "runs").mkdir(parents=True)
    (folder / f"runs/{name}.yaml").write_text(content)
    deployment.put(folder)
    wait_for("the new run", lambda: name in client.runs("datasplit"), seconds=180)
