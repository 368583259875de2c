"""What several test files share: stores that are made once, a real object store, its network."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from faulty_proxy import FaultyProxy
from gcs_server import BUCKET, gcs_server, reached_at
from tiny_project import copy_of, make_project
from tiny_run import segmented

from seg_core.store import Store

# minutes each, with dagster most of them spent waiting for its daemon
LONGEST = [
    "test_dagster_backfill",
    "test_browser_blocks",
    "test_dagster",
    "test_browser_promotion",
    "test_interrupted",
    "test_browser_runs",
    "test_gcs_faults",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: of several processes, none ends long after the others."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny volume segmented by the tiny run: to be copied, not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    segmented(folder)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with three checkpoints, trained and validated: to be copied, not changed."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    """A copy in which all is done, for a test to change."""
    return copy_of(finished, tmp_path)


@pytest.fixture(scope="session")
def gcs_proxy() -> Iterator[FaultyProxy]:
    """A proxy that lets all pass, before a server that lives as long as the tests."""
    with gcs_server() as url, FaultyProxy(url) as proxy:
        yield proxy


@pytest.fixture
def gcs(gcs_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    """gs:// is behind this proxy."""
    with reached_at(gcs_proxy.url):
        yield gcs_proxy


@pytest.fixture
def gs_uri(gcs: FaultyProxy) -> str:
    """An empty folder of the object store."""
    return f"gs://{BUCKET}/{uuid4().hex[:8]}"
