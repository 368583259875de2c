"""The local overlay on a cluster: applied, ready, spoken to through the webserver's GraphQL."""

import io
import json
import shlex
import socket
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster import NAMESPACE, PROJECT, Cluster
from dagster_dev import kill_group, wait_for

OVERLAY = PROJECT / "k8s/overlays/local"
PARTS = ("code-server", "webserver", "daemon")
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "seg") { __typename
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename } } } }"""
ASSETS = "{ assetNodes { assetKey { path } } }"


class Deployment:
    """Webserver, daemon, code server and Postgres; the namespace goes with it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> "Deployment":
        self.cluster.kubectl("apply", "-k", str(OVERLAY))
        try:
            self.wait()
            kubectl = ["kubectl", "--kubeconfig", self.cluster.kubeconfig, "-n", NAMESPACE]
            # it ends with the pod that it leads to
            forward = f"port-forward service/webserver {self.port}:80"
            forward = f"while true; do {shlex.join(kubectl)} {forward}; sleep 0.3; done"
            self.forward = subprocess.Popen(
                ["bash", "-c", forward],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.cluster.kubectl("delete", "namespace", NAMESPACE)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        kill_group(self.forward.pid)
        self.cluster.kubectl("delete", "namespace", NAMESPACE)

    def wait(self) -> None:
        """Until everything is there, in its newest form."""
        for part in PARTS:
            self.cluster.kubectl("rollout", "status", f"deployment/{part}", "--timeout=180s")
        self.cluster.kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL query; the webserver may just be coming back."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        answer: dict[str, Any] = wait_for("the webserver", lambda: self._ask(body), seconds=180)
        data: dict[str, Any] = answer["data"]
        return data

    def _ask(self, body: bytes) -> dict[str, Any] | None:
        url, kind = f"http://127.0.0.1:{self.port}/graphql", {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(url, body, kind)
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except (OSError, urllib.error.HTTPError):
            return None
        return None if "errors" in answer else answer

    def load(self, *assets: str) -> None:
        """Load the definitions anew, until these assets are served."""

        def served() -> bool:
            nodes = self.ask(ASSETS)["assetNodes"]
            return set(assets) <= {"/".join(n["assetKey"]["path"]) for n in nodes}

        self.ask(RELOAD)
        wait_for("the new definitions", served)

    def put(self, folder: Path) -> None:
        """Copy a folder's content into the store."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for child in sorted(folder.iterdir()):
                tar.add(child, child.name)
        command = ("exec", "-i", "deployment/code-server", "--", "tar", "-xC", "/store")
        self.cluster.kubectl(*command, given=buffer.getvalue())

    def fetch(self, path: str) -> dict[str, bytes]:
        """Every file below a path of the store."""
        command = ("exec", "deployment/code-server", "--", "tar", "-cC", f"/store/{path}", ".")
        found = {}
        with tarfile.open(fileobj=io.BytesIO(self.cluster.kubectl(*command))) as tar:
            for member in tar.getmembers():
                if member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    found[member.name.removeprefix("./")] = content.read()
        return found
