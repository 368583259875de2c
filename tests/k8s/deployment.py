"""The local overlay on a cluster: applied, ready, spoken to through the webserver's GraphQL."""

import io
import json
import tarfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cluster import NAMESPACE, PROJECT, Cluster
from dagster_client import TRAINING
from dagster_dev import wait_for

from seg_core.store import Store

OVERLAY = PROJECT / "k8s/overlays/local"
ON_GCS = PROJECT / "tests/k8s/gcs"  # the same, with its store on gs:// and a server for that
PARTS = ("code-server", "webserver", "daemon")
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "seg") { __typename
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename } } } }"""
ASSETS = "{ assetNodes { assetKey { path } } }"


class Deployment:
    """Webserver, daemon, code server and Postgres; the namespace goes with it."""

    def __init__(self, cluster: Cluster, overlay: Path = OVERLAY) -> None:
        self.cluster, self.overlay = cluster, overlay
        self.bucket: Store | None = None  # where the store is no claim
        self.stack = ExitStack()

    def __enter__(self) -> "Deployment":
        # of tests that just ended
        self.cluster.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=180s")
        self.cluster.kubectl("apply", "-k", str(self.overlay))
        try:
            self.wait()
            self.url = self.stack.enter_context(self.cluster.forward(80, "service/webserver"))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
        self._remove()

    def _remove(self) -> None:
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    def wait(self) -> None:
        """Until everything is there, in its newest form."""
        for part in PARTS:
            self.cluster.kubectl("rollout", "status", f"deployment/{part}", "--timeout=180s")
        self.cluster.kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL query; the webserver may just be coming back."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        self.refused: object = None
        try:
            answer: dict[str, Any] = wait_for("an answer", lambda: self._ask(body), seconds=180)
        except TimeoutError as error:
            error.add_note(f"{query} {variables}: {self.refused}")
            raise
        data: dict[str, Any] = answer["data"]
        return data

    def _ask(self, body: bytes) -> dict[str, Any] | None:
        kind = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(f"{self.url}/graphql", body, kind)
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except OSError as error:
            self.refused = error
            return None
        self.refused = answer.get("errors")
        return None if self.refused else answer

    def load(self, *assets: str) -> None:
        """Load the definitions anew, until these assets are served."""

        def served() -> bool:
            nodes = self.ask(ASSETS)["assetNodes"]
            return set(assets) <= {"/".join(n["assetKey"]["path"]) for n in nodes}

        self.ask(RELOAD)
        wait_for("the new definitions", served)

    def configure(self, **settings: str) -> None:
        """Let `seg-settings` say this."""
        patch = json.dumps({"data": settings})
        self.cluster.kubectl("patch", "configmap", "seg-settings", "--type=merge", "-p", patch)
        self.restart()

    def become(self, overlay: Path, image: str | None = None) -> None:
        """Be that of another overlay, and have another image: steps too, a run's file is theirs."""
        self.overlay = overlay
        self.cluster.kubectl("apply", "-k", str(overlay))
        if image is None:
            self.restart()
            return
        parts = [f"deployment/{part}" for part in PARTS]
        self.cluster.kubectl("set", "image", *parts, f"main={image}")
        variable = f"DAGSTER_CURRENT_IMAGE={image}"
        self.cluster.kubectl("set", "env", "deployment/code-server", variable)
        self._come_back()

    def restart(self) -> None:
        """Let the services see other settings."""
        self.cluster.kubectl("rollout", "restart", *(f"deployment/{part}" for part in PARTS))
        self._come_back()

    def _come_back(self) -> None:
        self.wait()
        self.load(*TRAINING)  # a webserver is ready before it has the definitions

    def put(self, folder: Path) -> None:
        """Copy a folder's content into the store."""
        if self.bucket is not None:
            self.bucket.fs.put(f"{folder}/", self.bucket.uri, recursive=True)
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for child in sorted(folder.iterdir()):
                tar.add(child, child.name)
        self._in_pod(["tar", "-xC", "/store"], buffer.getvalue())

    def fetch(self, path: str) -> dict[str, bytes]:
        """Every file below a path of the store; none where there is no such path."""
        if self.bucket is not None:
            contents = {name: self.bucket.find_bytes(name) for name in self.bucket.sizes(path)}
            return {n.removeprefix(f"{path}/"): c for n, c in contents.items() if c is not None}
        tar = ["sh", "-c", f"test ! -d /store/{path} || tar -cC /store/{path} ."]
        archive = self._in_pod(tar) or bytes(tarfile.BLOCKSIZE * 2)  # nothing: an empty tar
        found = {}
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar.getmembers():
                if member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    found[member.name.removeprefix("./")] = content.read()
        return found

    def inside(self, command: str) -> str:
        """What a shell command prints in the code server's pod."""
        return self._in_pod(["sh", "-c", command]).decode()

    def python(self, code: str) -> None:
        """Run it in the code server's pod."""
        self._in_pod(["python", "-c", code])

    def _in_pod(self, command: list[str], given: bytes | None = None) -> bytes:
        """What a command prints in the code server's pod, which may just be coming back."""

        def run() -> tuple[bytes] | None:
            pod = ("exec", "-i", "deployment/code-server", "--")
            try:
                return (self.cluster.kubectl(*pod, *command, given=given),)
            except RuntimeError as error:
                self.refused = error
                return None

        try:
            return wait_for(f"{command} in a pod", run, seconds=180)[0]
        except TimeoutError as error:
            error.add_note(str(self.refused))
            raise
