"""The contexts on a cluster: a pod with a claim that pods share, and one with an object store."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import PROJECT, Cluster, setting
from dagster_client import Client
from dagster_dev import wait_for
from deployment import Deployment
from gcs_server import BUCKET, MAKE_BUCKET, binary, reached_at

from contexts.dagster_steps import dagster_runs
from contexts.measurements import Context, DagsterRun
from contexts.measuring import RUN, VOLUME
from seg_core.store import Store

IMAGE, GCS_IMAGE, NAMESPACE = "localhost/seg:test", "localhost/seg:contexts-gcs", "seg-contexts"
MANIFEST = Path(__file__).with_name("pods.yaml")
GCS_FILE = "FROM scratch\nCOPY fake-gcs-server /\n"
ON_GCS = {
    "SEG_STORE": f"gs://{BUCKET}/contexts",
    "STORAGE_EMULATOR_HOST": f"http://gcs.{NAMESPACE}:80",
}
FORGET = f"from seg_core.store import Store; Store().remove('runs/{RUN}/{VOLUME}')"


def is_a_cluster_there() -> bool:
    """Whether there is one, or one may be brought up."""
    return bool(os.environ.get("KUBECONFIG") or setting("SEG_K8S_CLUSTER"))


class Pods:
    """A namespace with a pod that works; it goes at the end.

    Args:
        cluster: where.
        cores: that the pod may use.
        memory: GB that it asks for: those of a step, for every core.
    """

    def __init__(self, cluster: Cluster, cores: int, memory: int) -> None:
        self.cluster, self.cores, self.memory = cluster, cores, memory

    def __enter__(self) -> "Pods":
        self.cluster.build(PROJECT, PROJECT / "k8s/Dockerfile", IMAGE)
        with TemporaryDirectory() as name:
            shutil.copy(binary(), Path(name) / "fake-gcs-server")
            (Path(name) / "Dockerfile").write_text(GCS_FILE)
            self.cluster.build(Path(name), Path(name) / "Dockerfile", GCS_IMAGE)
        sizes = {"CORES": str(self.cores), "MEMORY": f"{self.memory * self.cores}G"}
        manifest = MANIFEST.read_text()
        for word, size in sizes.items():
            manifest = manifest.replace(word, size)
        self.__exit__()  # what a killed command left
        try:
            self._kubectl("apply", "-f", "-", given=manifest.encode())
            self._kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=180s")
            self._in_worker("python", "-c", MAKE_BUCKET)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")

    def _kubectl(self, *arguments: str, given: bytes | None = None) -> bytes:
        return self.cluster.kubectl("-n", NAMESPACE, *arguments, given=given)

    def _in_worker(self, *command: str, given: bytes | None = None) -> bytes:
        return self._kubectl("exec", "-i", "worker", "--", *command, given=given or b"")

    def put(self, store: Path) -> None:
        """Copy a store's volumes and runs into the claim, and what measures into the pod."""
        self._in_worker("mkdir", "-p", "/store/contexts", "/tmp/bench")
        there = {name: store / name for name in ("volumes", "runs")}
        self._in_worker("tar", "-xC", "/store/contexts", given=_tar(there))
        code = {"contexts": Path(__file__).parent}
        code["faulty_proxy.py"] = PROJECT / "tests/faulty_proxy.py"
        self._in_worker("tar", "-xC", "/tmp/bench", given=_tar(code))

    def measure(self, store: str, *options: str) -> Context:
        """Measure in the pod."""
        command = ("python", "-m", "contexts.measuring", store, *options)
        return Context.of_json(json.loads(self._in_worker(*command)))

    def in_dagster(self, store: Path) -> tuple[list[DagsterRun], list[DagsterRun]]:
        """Blocks as steps of Dagster, with the store in a claim, and on gs:// (filled before)."""
        with Deployment(self.cluster) as deployment:
            deployment.put(store)
            on_claim = _measured(deployment)
            deployment.configure(**ON_GCS)
            gcs = self.cluster.forward(80, "-n", NAMESPACE, "service/gcs")
            with gcs as url, reached_at(url):
                deployment.bucket = Store(ON_GCS["SEG_STORE"])
                on_gcs = _measured(deployment)
        return on_claim, on_gcs


def _measured(deployment: Deployment) -> list[DagsterRun]:
    deployment.python(FORGET)  # what was made before
    deployment.load(f"{VOLUME}/prediction")
    client = Client(deployment, VOLUME)
    wait_for("the sensor to see the run", lambda: client.partitions("prediction"))
    return dagster_runs(deployment, client)


def _tar(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in files.items():
            tar.add(path, name, filter=_plain)
    return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.mode |= 0o444 | (0o111 if member.isdir() else 0)
    return None if "__pycache__" in member.name else member
