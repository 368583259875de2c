"""Object stores: how gcsfs, s3fs and tensorstore reach them, and what is said when they cannot.

Credentials are those that the libraries find by themselves (application default credentials,
Workload Identity, an instance's role); none is ever read or written here.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import fsspec

from seg_core.errors import SegError

CONNECT_SECONDS = 10
SILENT_SECONDS = 20
"""An answer of which no byte came for so long is asked for again."""

# 1 + 2 + 4 + 8 + 16 s between tries: as long as gcsfs, which tries 6 times, waits at most
RETRIES = {
    f"{kind}_request_retries": {"max_retries": 5, "initial_delay": "1s", "max_delay": "16s"}
    for kind in ("gcs", "s3")
}
"""For a tensorstore context; its own would be 32 tries, a quarter of an hour."""

_LIBRARIES = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests")
# whole numbers: a port may be 40367
_REFUSED = re.compile(r"\b40[13]\b|anonymous caller|credential|forbidden|access denied", re.I)


def is_remote(uri: str) -> bool:
    """Whether a URI is no path of this machine."""
    return "://" in uri and not uri.startswith("file://")


def storage_options(uri: str) -> dict[str, Any]:
    """What fsspec (and zarr) are to be told of a URI."""
    scheme = uri.partition("://")[0] if is_remote(uri) else ""
    # listings are not kept: other machines write too
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("gs", "gcs"):
        import aiohttp

        _prepare_gcs()
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        options["requests_timeout"] = timeout
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            options["token"] = "anon"  # nobody asks for any there
    if scheme == "s3":
        times = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENT_SECONDS}
        options["config_kwargs"] = {**times, "retries": {"max_attempts": 6, "mode": "standard"}}
    return options


def _prepare_gcs() -> None:
    # gcsfs would ask for the kind of every bucket, of which we need none, by gRPC; it looks at
    # this when it is imported, which fsspec does when it meets the first gs://
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # it logs what it raises as well, with the whole stack
    _silence("gcsfs")
    # tensorstore heeds no STORAGE_EMULATOR_HOST
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        url = emulator if "://" in emulator else f"http://{emulator}"
        os.environ["TENSORSTORE_GCS_HTTP_URL"] = url
    os.environ.setdefault("TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS", str(CONNECT_SECONDS))
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", str(SILENT_SECONDS))
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")


@cache
def _silence(logger: str) -> None:
    logging.getLogger(logger).addHandler(logging.NullHandler())


def zarr_store(uri: str) -> Any:
    """What zarr is to be given for a URI or path: it shares the sessions of `open_fs`."""
    if not is_remote(uri):
        return uri
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from zarr.storage import FsspecStore

    # a file system of zarr's own has its session in another event loop than the one that is asked
    # to close it: every process would end with a traceback
    fs, path = open_fs(uri)
    return FsspecStore(AsyncFileSystemWrapper(fs, asynchronous=True), path=path)


def open_fs(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI or path, and the path in it."""
    with reaching(uri):
        found: tuple[Any, str] = fsspec.core.url_to_fs(uri, **storage_options(uri))
        return found


def kvstore(uri: str) -> Any:
    """A folder of an object store as tensorstore wants it."""
    storage_options(uri)
    scheme, _, rest = uri.rstrip("/").partition("://")
    if scheme not in ("gs", "gcs", "s3"):
        return f"{uri.rstrip('/')}/"
    # not as a URL, in which a % would have to be quoted
    bucket, _, path = rest.partition("/")
    driver = "s3" if scheme == "s3" else "gcs"
    return {"driver": driver, "bucket": bucket, "path": f"{path}/"}


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn whatever a library raises of an object store into one sentence.

    Raises:
        SegError: it did not answer, or refused. All other errors are as they were.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if not (is_remote(uri) and _of_the_store(error)):
            raise
        raise SegError(unreachable(uri, error)) from error


def _of_the_store(error: Exception) -> bool:
    library = type(error).__module__.partition(".")[0]
    # of tensorstore and of a request that is wrong: a plain ValueError, while zarr has its own
    return isinstance(error, OSError) or library in _LIBRARIES or type(error) is ValueError


def unreachable(uri: str, error: Exception) -> str:
    """A sentence for a library's error."""
    reason = (next(iter(str(error).splitlines()), "") or type(error).__name__)[:300]
    if _REFUSED.search(str(error)):
        return (
            f"{uri}: the object store refused: {reason}; log in with `gcloud auth "
            "application-default login` (s3: `aws configure`), or give the service account that "
            "this runs as (in a pod: by Workload Identity) the right to its objects"
        )
    return (
        f"{uri}: the object store cannot be reached, after several tries: {reason}; the same "
        "command again goes on from here"
    )
