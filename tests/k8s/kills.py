"""Ways to kill what runs on a cluster; each is logged."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from cluster import Cluster
from dagster_dev import wait_for
from deployment import PARTS

STEP, WORKER = "step_worker", "run_worker"


class Killer:
    """Kills what is named, and prints a log of it."""

    def __init__(self, cluster: Cluster, log: TextIO = sys.stdout) -> None:
        self.cluster, self.log = cluster, log
        self.began = time.monotonic()

    def note(self, what: str) -> None:
        """A line of the log."""
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", file=self.log, flush=True)

    def find(self, component: str) -> list[Any]:
        """Running pods of a component."""
        return self.cluster.pods(f"app.kubernetes.io/component={component}", "Running")

    def one(self, component: str) -> Any:
        """A running pod of a component, as soon as there is one: a run may just be given up."""
        return wait_for(f"a {component}", lambda: self.find(component), seconds=600)[0]

    def delete(self, *components: str) -> None:
        """Delete pods as one does in a hurry: no grace."""
        for component in components:
            pod = self.one(component)["metadata"]["name"]
            how = ("--grace-period=0", "--force", "--wait=false")
            self.cluster.kubectl("delete", "pod", pod, *how)
            self.note(f"deleted {component} {pod}")

    def evict(self, *components: str) -> None:
        """Delete pods as a drained node does: each is asked to stop, and has its time."""
        for component in components:
            pod = self.one(component)["metadata"]["name"]
            self.cluster.kubectl("delete", "pod", pod, "--wait=false")
            self.note(f"evicted {component} {pod}")

    def kill(self, *components: str, container: str | None = None) -> None:
        """SIGKILL to the processes of pods, from the node; of many containers, to one by name."""
        for component in components:
            pod = self.one(component)
            statuses = pod["status"]["containerStatuses"]
            status = next(s for s in statuses if container in (None, s["name"]))
            number = status["containerID"].split("//")[1]
            tasks = self.cluster.on_node("ctr", "-n", "k8s.io", "tasks", "ls").splitlines()
            process = next(line.split()[1] for line in tasks if line.startswith(number))
            self.cluster.on_node("kill", "-9", process)
            self.note(f"killed process {process} of {component} {pod['metadata']['name']}")

    def drain(self) -> None:
        """Drain the node of all that we run, and let it take pods again."""
        node = self.cluster.node()
        how = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
        try:
            self.cluster.kubectl("drain", node, *how, "--pod-selector=app.kubernetes.io/name")
        finally:
            self.cluster.kubectl("uncordon", node)
        self.note(f"drained {node}")

    def stop_postgres(self, seconds: float) -> None:
        """Postgres is away for a while."""
        self.cluster.kubectl("scale", "statefulset/postgres", "--replicas=0")
        wait_for("the end of postgres", lambda: not self.find("postgres"))
        time.sleep(seconds)
        self.cluster.kubectl("scale", "statefulset/postgres", "--replicas=1")
        self.note(f"postgres was away for {seconds:g} s")

    def ways(self) -> dict[str, Callable[[], None]]:
        """Every way, by a name."""
        return {
            "step deleted": lambda: self.delete(STEP),
            "step killed": lambda: self.kill(STEP),
            "step evicted": lambda: self.evict(STEP),
            "run deleted": lambda: self.delete(WORKER),
            "run killed": lambda: self.kill(WORKER),
            "run and step killed": lambda: self.kill(WORKER, STEP),
            "run and step evicted": lambda: self.evict(WORKER, STEP),
            "daemon deleted": lambda: self.delete("daemon"),
            "code server deleted": lambda: self.delete("code-server"),
            "webserver deleted": lambda: self.delete("webserver"),
            "all of dagster deleted": lambda: self.delete(*PARTS),
            "node drained": self.drain,
            "postgres away for 3 s": lambda: self.stop_postgres(3),
            "postgres away for 45 s": lambda: self.stop_postgres(45),
        }
