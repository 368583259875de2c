"""The cluster that tests run on: whatever KUBECONFIG names, or one that a command brings up.

SEG_K8S_CLUSTER   brings it up and prints the path of its kubeconfig
SEG_K8S_DOWN      stops what that one brought up, at the end; a cluster of KUBECONFIG stays
SEG_K8S_BUILD     builds an image and gives it to the nodes; {folder}, {file} and {tag} are put in
SEG_K8S_NODE      runs what follows on a node, as root
"""

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dagster_dev import kill_group, wait_for
from gcs_server import free_port

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "../shared/kube/cluster"
DEFAULTS = {
    "SEG_K8S_CLUSTER": "{script} up >&2 && {script} base >&2 && {script} kubeconfig",
    "SEG_K8S_DOWN": "{script} down",
    "SEG_K8S_BUILD": "{script} build {{folder}} {{tag}} -f {{file}}",
    "SEG_K8S_NODE": "{script} exec",
}
NONE = (
    "no cluster to test on: set KUBECONFIG to one that may be filled and emptied, or "
    "SEG_K8S_CLUSTER to a command that brings one up and prints the path of its kubeconfig"
)
NAMESPACE = "seg"


def setting(name: str) -> str:
    """A command, by default that of the script where it is there."""
    if name in os.environ:
        return os.environ[name]
    return DEFAULTS[name].format(script=shlex.quote(str(SCRIPT))) if SCRIPT.exists() else ""


class Cluster:
    """A running cluster, spoken to by kubectl."""

    def __enter__(self) -> "Cluster":
        self.kubeconfig = os.environ.get("KUBECONFIG") or self._bring_up()
        return self

    def __exit__(self, *_: object) -> None:
        if not os.environ.get("KUBECONFIG"):
            subprocess.run(["bash", "-ec", setting("SEG_K8S_DOWN")], check=True)

    def _bring_up(self) -> str:
        command = setting("SEG_K8S_CLUSTER")
        if not command:
            pytest.exit(NONE, returncode=1)  # one sentence, not one for every test
        shell = ["bash", "-ec", command]
        return subprocess.run(shell, check=True, capture_output=True, text=True).stdout.strip()

    def build(self, folder: Path, file: Path, tag: str) -> None:
        """Build an image and give it to the nodes."""
        command = setting("SEG_K8S_BUILD")
        assert command, "set SEG_K8S_BUILD to a command that builds {file} in {folder} as {tag}"
        shell = ["bash", "-ec", command.format(folder=folder, file=file, tag=tag)]
        done = subprocess.run(shell, check=False, capture_output=True, text=True, cwd=PROJECT)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def on_node(self, *command: str) -> str:
        """What a command prints that runs on a node."""
        given = setting("SEG_K8S_NODE")
        assert given, "set SEG_K8S_NODE to what runs a command on a node, as in: docker exec NODE"
        return subprocess.run(
            [*shlex.split(given), *command], check=True, capture_output=True, text=True
        ).stdout

    def kubectl(self, *arguments: str, given: bytes | None = None) -> bytes:
        """What kubectl prints.

        Raises:
            RuntimeError: it failed.
        """
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", NAMESPACE, *arguments]
        done = subprocess.run(command, check=False, input=given, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout

    @contextmanager
    def forward(self, port: int, *target: str) -> Iterator[str]:
        """The URL on this machine of a port of a pod, whichever pod is there."""
        here = free_port()
        kubectl = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", NAMESPACE]
        forward = shlex.join([*kubectl, "port-forward", *target, f"{here}:{port}"])
        process = subprocess.Popen(
            # it ends with the pod that it leads to
            ["bash", "-c", f"while true; do {forward}; sleep 0.3; done"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for(f"a way to {target[-1]}", lambda: _answers(here))
            yield f"http://127.0.0.1:{here}"
        finally:
            kill_group(process.pid)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def pods(self, selector: str, *phases: str) -> list[Any]:
        """Pods of a label selector, in any of some phases."""
        found = self.get("pods", "-l", selector)["items"]
        return [pod for pod in found if not phases or pod["status"]["phase"] in phases]

    def node(self) -> str:
        """The first node's name."""
        return str(self.get("nodes")["items"][0]["metadata"]["name"])

    def offer_gpus(self, count: int) -> None:
        """Let the node say that it has GPUs: a number, no device."""
        value = {"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(count)}
        patch = json.dumps([value])
        self.kubectl(
            "patch", "node", self.node(), "--subresource=status", "--type=json", "-p", patch
        )


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
