"""The store: one URI below which every file of the project lies (a folder, gs:// or s3://).

Files appear whole or not at all: locally by a rename, on object stores by nature.
"""

import fcntl
import json
import math
import os
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from seg_core.errors import SegError

DEFAULT_STORE = ".local/store"


class Store:
    """Read and write small files by their path relative to the store's root."""

    def __init__(self, uri: str | None = None) -> None:
        given = uri or os.environ.get("SEG_STORE") or DEFAULT_STORE
        self.uri = given.removeprefix("file://").rstrip("/")
        if "://" not in self.uri:
            self.uri = str(Path(self.uri).absolute())

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system that holds the store."""
        # listings are not kept: other machines write too
        return fsspec.core.url_to_fs(self.uri, use_listings_cache=False)[0]

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return "://" not in self.uri

    def path(self, relative: str) -> str:
        """The URI of a file in the store; a path that is absolute or a URI stays as it is."""
        if "://" in relative or relative.startswith("/"):
            return relative
        return f"{self.uri}/{relative}"

    def exists(self, relative: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self.fs.exists(self.path(relative)))

    def read_bytes(self, relative: str) -> bytes:
        """A file's content.

        Raises:
            SegError: it is not there.
        """
        try:
            return bytes(self.fs.cat_file(self.path(relative)))
        except FileNotFoundError:
            raise SegError(f"no file {self.path(relative)}") from None

    def read_json(self, relative: str) -> Any:
        """A JSON file's content, or None where there is no such file."""
        try:
            return json.loads(self.fs.cat_file(self.path(relative)))
        except FileNotFoundError:
            return None

    def read_folder(self, relative: str, suffix: str = ".json") -> dict[str, bytes]:
        """All files of a folder that end in `suffix`, by name without it, read in one go."""
        folder = self.path(relative)
        try:
            paths = [p for p in self.fs.ls(folder, detail=False) if p.endswith(suffix)]
        except FileNotFoundError:
            return {}
        return {
            path.rsplit("/", 1)[-1].removesuffix(suffix): content
            for path, content in self._read_all(paths).items()
        }

    def _read_all(self, paths: list[str]) -> dict[str, bytes]:
        # a file may go between the listing and the reading: another process ended its work
        if not self.is_local:
            return dict(self.fs.cat(paths, on_error="omit")) if paths else {}
        contents = {}
        for path in paths:  # not by `cat`, which takes [ and * in a folder's name for a pattern
            with suppress(FileNotFoundError):
                contents[path] = Path(path).read_bytes()
        return contents

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        path = self.path(relative)
        if not self.is_local:
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
        """Write a file only if it is not there; says whether it was written by this call."""
        path = self.path(relative)
        if not self.is_local:
            try:
                self.fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
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
        if self.exists(relative):
            self.fs.rm(self.path(relative), recursive=True)

    def remove_json(self, relative: str, content: Any) -> None:
        """Remove a JSON file if it holds `content`: on one machine, no other that came since."""
        if not self.is_local:
            if self.read_json(relative) == content:
                self.remove(relative)
            return
        path = Path(self.path(relative))
        with suppress(FileNotFoundError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # who had to wait for the lock may have opened a file that is removed by now
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino and json.load(file) == content:
                path.unlink()

    def names(self, relative: str, suffix: str) -> list[str]:
        """Names of the files of a folder that end in `suffix`, without it, sorted."""
        try:
            paths = self.fs.ls(self.path(relative), detail=False)
        except FileNotFoundError:
            return []
        names = [p.rstrip("/").rsplit("/", 1)[-1] for p in paths]
        return sorted(
            n.removesuffix(suffix) for n in names if n.endswith(suffix) and not n.startswith(".")
        )


def to_json(content: Any) -> str:
    """JSON text, keys in the order given; nan and infinity, which JSON has not, are null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
