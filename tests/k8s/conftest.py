"""One cluster, one image and one deployment for all of these tests; nothing is left behind."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import Cluster
from dagster_client import Client
from dagster_dev import wait_for
from deployment import ON_GCS, OVERLAY, Deployment
from images import IMAGES
from runs import RUNS
from tiny_run import make_volume

from seg_core.blockwise.engine import Options
from seg_core.run import add_run, load_run
from seg_core.segment import predict_volume, segment_volume
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import load_volume


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def building(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[None]]:
    """All images that the tests want, while they are built: most of that is waiting for disks."""
    wanted = {name for item in request.session.items for name in item.fixturenames}
    # here: of two threads that ask first for a folder, pytest gives each a place of its own
    folders = {name: tmp_path_factory.mktemp(name) for name in IMAGES if name in wanted}

    def build() -> None:
        for name, folder in folders.items():
            cluster.build(*IMAGES[name].prepare(folder), IMAGES[name].tag)

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(build)


@pytest.fixture(scope="session")
def image(building: Future[None]) -> str:
    """Ours; the others are there then too."""
    building.result()
    return IMAGES["image"].tag


@pytest.fixture(scope="session")
def gcs_image(image: str) -> None:
    """An object store behind a bad network, which `ON_GCS` names."""


@pytest.fixture(scope="session")
def users_image(image: str) -> str:
    """Ours, and a user's package on top."""
    return IMAGES["users_image"].tag


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
    building: Future[None], store: Store, tmp_path_factory: pytest.TempPathFactory
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
def begun(cluster: Cluster, image: str, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment as the first test wants it: no other comes before."""
    first = request.session.items[0].fixturenames
    with Deployment(cluster, ON_GCS if "on_gcs" in first else OVERLAY) as begun:
        yield begun


@pytest.fixture(scope="session")
def deployment(begun: Deployment, users_image: str, store: Store) -> Deployment:
    """The local overlay with a user's image, and the store in it."""
    begun.become(OVERLAY, users_image)
    begun.put(Path(store.uri))
    begun.load("phantom/prediction")
    return begun


@pytest.fixture(scope="session")
def client(deployment: Deployment) -> Client:
    client = Client(deployment, "phantom")
    wait_for("the sensor to see the runs", lambda: client.partitions("prediction"))
    return client
