"""What several test files share: a real object store, and a network before it that can fail."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from faulty_proxy import FaultyProxy
from gcs_server import BUCKET, gcs_server, reached_at


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
