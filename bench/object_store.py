"""Voxels and records on gs:// against the bare client, on a fake-gcs-server of this machine."""

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client

from seg_core.geometry import Box
from seg_core.phantom import make_phantom
from seg_core.store import Store
from seg_core.volumes.ome_zarr import ZarrArray, create

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from gcs_server import BUCKET, gcs_server, reached_at

CHUNK, THREADS, RECORDS = 64, 32, 200
Line = tuple[str, Callable[[], Any], str, Callable[[], Any]]


def object_store(side: int) -> Iterator[Line]:
    """What is measured, ours, the other, the other's call."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # of its pool of 10
    with gcs_server() as url, reached_at(url), ThreadPoolExecutor(THREADS) as pool:
        bucket = Client("none", AnonymousCredentials()).bucket(BUCKET)
        yield from _arrays(bucket, pool, side)
        yield from _records(bucket, pool)


def _arrays(bucket: Bucket, pool: ThreadPoolExecutor, side: int) -> Iterator[Line]:
    """The bare client moves the same compressed chunks, and neither packs nor unpacks them."""
    raw, _ = make_phantom((side, side, side), seed=1)
    box = Box.of_shape(raw.shape)
    array = ZarrArray(f"gs://{BUCKET}/a.zarr", box, None, "uint8", (8.0, 8.0, 8.0), (CHUNK,) * 3)
    create(array).write(box, raw)
    names = [blob.name for blob in bucket.list_blobs(prefix="a.zarr/0/c/")]

    def download(name: str) -> bytes:
        return bytes(bucket.blob(name).download_as_bytes())

    chunks = dict(zip(names, pool.map(download, names), strict=True))

    def upload(name: str) -> None:
        bucket.blob(f"bare/{name}").upload_from_string(chunks[name])

    yield (
        "read an array on gs://",
        # opened again, all of it is asked for again; the server heeds no "if it has changed"
        lambda: replace(array).read(),
        "bare client",
        lambda: list(pool.map(download, names)),
    )
    yield (
        "write an array on gs://",
        lambda: array.write(box, raw),
        "bare client",
        lambda: list(pool.map(upload, names)),
    )


def _records(bucket: Bucket, pool: ThreadPoolExecutor) -> Iterator[Line]:
    store, record = Store(f"gs://{BUCKET}/r"), b"x" * 600

    def write(name: str) -> None:
        bucket.blob(name).upload_from_string(record)

    def read_all() -> list[bytes]:
        blobs = list(bucket.list_blobs(prefix="r/f/"))
        return list(pool.map(lambda blob: blob.download_as_bytes(), blobs))

    for number in range(RECORDS):
        write(f"r/f/{number}.json")
    yield (
        f"read {RECORDS} records on gs://",
        lambda: store.read_folder("f"),
        "bare client",
        read_all,
    )
    yield (
        "write a record on gs://",
        lambda: store.write_bytes("f/0.json", record),
        "bare client",
        lambda: write("r/f/0.json"),
    )
