"""The images of these tests: ours, and two more of the tests' own, each by the fixture for it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gcs_server
from cluster import PROJECT
from deployment import ON_GCS

IMAGE = "localhost/seg:test"  # the one that the overlays name
OWN = Path(__file__).parent / "own.py"


@dataclass(frozen=True)
class Image:
    """An image to be built."""

    tag: str
    prepare: Callable[[Path], tuple[Path, Path]]
    """Given an empty folder: the folder to build in, and the Dockerfile."""


def _ours(_: Path) -> tuple[Path, Path]:
    return PROJECT, PROJECT / "k8s/Dockerfile"


def _object_store(folder: Path) -> tuple[Path, Path]:
    """A fake-gcs-server, and a bad network before it."""
    shutil.copy(gcs_server.binary(), folder / "fake-gcs-server")
    for file in (PROJECT / "tests/faulty_proxy.py", ON_GCS / "bad_network.py"):
        shutil.copy(file, folder)
    return folder, ON_GCS / "Dockerfile"


def _users(folder: Path) -> tuple[Path, Path]:
    """A package on top of ours, by two lines."""
    shutil.copy(OWN, folder)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY {OWN.name} /opt/plugins/\n")
    return folder, folder / "Dockerfile"


IMAGES = {
    "image": Image(IMAGE, _ours),
    "gcs_image": Image("localhost/seg:gcs", _object_store),
    "users_image": Image("localhost/seg:own", _users),
}
