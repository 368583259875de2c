"""The store: one URI below which every file of the project lies (a folder, gs:// or s3://).

Files appear whole or not at all: locally by a rename, on object stores by nature.
"""

import fcntl
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from seg_core.errors import SegError
from seg_core.remote import is_remote, open_fs, reaching

DEFAULT_STORE = ".local/store"
_PATTERN = "*?[#"  # fsspec takes them for patterns, and would remove what matches


class Store:
    """Read and write small files by their path relative to the store's root."""

    def __init__(self, uri: str | None = None) -> None:
        given = uri or os.environ.get("SEG_STORE") or DEFAULT_STORE
        self.uri = given.removeprefix("file://").rstrip("/")
        if self.is_local:
            self.uri = str(Path(self.uri).absolute())
        elif any(sign in self.uri for sign in _PATTERN):
            raise SegError(f"store {self.uri}: must hold none of {' '.join(_PATTERN)} in its name")

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system that holds the store."""
        return open_fs(self.uri)[0]

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return not is_remote(self.uri)

    def path(self, relative: str) -> str:
        """The URI of a file in the store; a path that is absolute or a URI stays as it is."""
        if "://" in relative or relative.startswith("/"):
            return relative
        return f"{self.uri}/{relative}"

    def exists(self, relative: str) -> bool:
        """Whether the file or folder is there."""
        with reaching(self.path(relative)):
            return bool(self.fs.exists(self.path(relative)))

    def find_bytes(self, relative: str) -> bytes | None:
        """A file's content, or None where there is no such file: one request."""
        with reaching(self.path(relative)), suppress(FileNotFoundError):
            return bytes(self.fs.cat_file(self.path(relative)))
        return None

    def read_bytes(self, relative: str) -> bytes:
        """A file's content.

        Raises:
            SegError: it is not there.
        """
        if (content := self.find_bytes(relative)) is None:
            raise SegError(f"no file {self.path(relative)}")
        return content

    def read_json(self, relative: str) -> Any:
        """A JSON file's content, or None where there is no such file."""
        content = self.find_bytes(relative)
        return None if content is None else json.loads(content)

    def read_folder(self, relative: str, suffix: str = ".json") -> dict[str, bytes]:
        """All files of a folder that end in `suffix`, by name without it, read in one go."""
        paths = [p for p in self._list(relative) if p.endswith(suffix)]
        with reaching(self.path(relative)):
            contents = self._read_all(paths)
        return {
            path.rsplit("/", 1)[-1].removesuffix(suffix): content
            for path, content in contents.items()
        }

    def _read_all(self, paths: list[str]) -> dict[str, bytes]:
        # neither by `cat`, which takes [ and * in a folder's name for a pattern
        if self.is_local:
            found = [_read_file(path) for path in paths]
        else:
            found = self.fs.cat_ranges(paths, None, None) if paths else []
        contents = {}
        for path, content in zip(paths, found, strict=True):
            # a file may go between the listing and the reading: another process ended its work
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
            if isinstance(content, bytes):
                contents[path] = content
        return contents

    def _list(self, relative: str) -> list[str]:
        with reaching(self.path(relative)), suppress(FileNotFoundError):
            return list(self.fs.ls(self.path(relative), detail=False))
        return []

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        path = self.path(relative)
        if not self.is_local:
            with reaching(path), _bucket(path):
                self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def create_bytes(self, relative: str, content: bytes) -> bool:
        """Write a file only if it is not there; says whether it holds what this call wrote."""
        path = self.path(relative)
        if not self.is_local:
            try:
                with reaching(path), _bucket(path):
                    self.fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                # a try of this very call may have written it, and its answer been lost
                return self.find_bytes(relative) == content
            return True
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.write_bytes(content)
            os.link(temporary, target)  # unlike a rename, fails where the target is
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def write_json(self, relative: str, content: Any) -> None:
        """Write a JSON file, whole or not at all, keys in the order given."""
        self.write_bytes(relative, f"{to_json(content)}\n".encode())

    def remove(self, relative: str) -> None:
        """Remove a file, or a folder with all below it; nothing happens where there is none."""
        path = self.path(relative)
        with reaching(path), suppress(FileNotFoundError):
            if self.is_local:
                self.fs.rm(path, recursive=True)
            elif files := self.fs.find(path):
                # one by one or in batches, but no folders, of which an object store has none
                self.fs.rm(files)

    def remove_file(self, relative: str) -> None:
        """As `remove`, for what is known to be a file: one request."""
        with reaching(self.path(relative)), suppress(FileNotFoundError):
            self.fs.rm_file(self.path(relative))

    def remove_json(self, relative: str, content: Any) -> None:
        """Remove a JSON file if it holds `content`, and no other that came since."""
        if not self.is_local:
            self._remove_remote_json(relative, content)
            return
        path = Path(self.path(relative))
        with suppress(FileNotFoundError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # who had to wait for the lock may have opened a file that is removed by now
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino and json.load(file) == content:
                path.unlink()

    def _remove_remote_json(self, relative: str, content: Any) -> None:
        path = self.path(relative)
        with reaching(path), suppress(FileNotFoundError, FileExistsError):
            generation = self.fs.info(path).get("generation")
            if self.read_json(relative) != content:
                return
            if generation is None:  # s3 knows no such condition
                self.remove_file(relative)
            else:  # refused (412, which gcsfs calls "exists") where another was written since
                bucket, key, _ = self.fs.split_path(path)
                place = ("DELETE", "b/{}/o/{}", bucket, key)
                self.fs.call(*place, ifGenerationMatch=generation)

    def sizes(self, relative: str) -> dict[str, int]:
        """Bytes of a file, or of every file below a folder, by its path relative to the store."""
        fs, root = open_fs(self.uri)
        with reaching(self.path(relative)):
            found = fs.find(self.path(relative), detail=True)
        return {path[len(root) + 1 :]: int(info["size"]) for path, info in found.items()}

    def names(self, relative: str, suffix: str) -> list[str]:
        """Names of the files of a folder that end in `suffix`, without it, sorted."""
        names = [p.rstrip("/").rsplit("/", 1)[-1] for p in self._list(relative)]
        return sorted(
            n.removesuffix(suffix) for n in names if n.endswith(suffix) and not n.startswith(".")
        )


def _read_file(path: str) -> bytes | FileNotFoundError:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        return error


@contextmanager
def _bucket(uri: str) -> Iterator[None]:
    """A file that is written can only be "not found" where its bucket is not.

    Raises:
        SegError: instead.
    """
    try:
        yield
    except FileNotFoundError:
        bucket = "/".join(uri.split("/")[:3])
        raise SegError(f"{uri}: there is no bucket {bucket}; make it first") from None


def to_json(content: Any) -> str:
    """JSON text, keys in the order given; nan and infinity, which JSON has not, are null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
