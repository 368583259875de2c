"""One cluster, one image and one deployment for all of these tests; nothing is left behind."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import PROJECT, Cluster
from dagster_client import Client
from dagster_dev import wait_for
from deployment import Deployment
from runs import RUNS
from tiny_run import make_volume

from seg_core.blockwise.engine import Options
from seg_core.run import add_run, load_run
from seg_core.segment import predict_volume, segment_volume
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import load_volume

IMAGE, OWN = "localhost/seg:test", "localhost/seg:own"
PACKAGE = """from seg_core.training.augment import Mirror


class Still(Mirror):
    kind: str = 'own:Still'
    axes: list[int] = []
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def building(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Images while they are built, one after the other: most of that is waiting for disks."""
    with ThreadPoolExecutor(1) as pool:
        built = {IMAGE: pool.submit(cluster.build, PROJECT, PROJECT / "k8s/Dockerfile", IMAGE)}
        if any("own_image" in item.fixturenames for item in request.session.items):
            folder = tmp_path_factory.mktemp("own")
            (folder / "own.py").write_text(PACKAGE)
            (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY own.py /opt/plugins/\n")
            built[OWN] = pool.submit(cluster.build, folder, folder / "Dockerfile", OWN)
        yield built


@pytest.fixture(scope="session")
def image(building: dict[str, Future[None]]) -> str:
    building[IMAGE].result()
    return IMAGE


@pytest.fixture(scope="session")
def own_image(building: dict[str, Future[None]]) -> str:
    """Ours, and a user's package on top."""
    building[OWN].result()
    return OWN


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A volume and a few runs, nothing made."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    for name, text in RUNS.items():
        add_run(store, name, text.encode(), f"{name}.yaml")
    return store


@pytest.fixture(scope="session")
def faultless(
    building: dict[str, Future[None]], store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store after `tiny` and `long` were made in this process."""
    folder = tmp_path_factory.mktemp("faultless")
    shutil.copytree(store.uri, folder, dirs_exist_ok=True)
    here = Store(str(folder))
    for name in ("tiny", "long"):
        run, volume = load_run(here, name), load_volume(here, "phantom")
        train(run)
        validate(run)
        predict_volume(run, volume, None, Options())
        segment_volume(run, volume, Options())
    return folder


@pytest.fixture(scope="session")
def deployment(cluster: Cluster, image: str, store: Store) -> Iterator[Deployment]:
    """The local overlay, with the store in it."""
    assert image == IMAGE, "the one that the overlay names"
    with Deployment(cluster) as deployment:
        deployment.put(Path(store.uri))
        deployment.load("phantom/prediction")
        yield deployment


@pytest.fixture(scope="session")
def client(deployment: Deployment) -> Client:
    client = Client(deployment, "phantom")
    wait_for("the sensor to see the runs", lambda: client.partitions("prediction"))
    return client
