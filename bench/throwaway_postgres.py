"""A Postgres of one's own, on a socket in a temporary folder, gone at the end."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """Start one; gives its address, as SQLAlchemy reads it."""
    folder = Path(tempfile.mkdtemp(prefix="seg-postgres-"))
    try:
        user = _other_user(folder)
        data, binaries = folder / "data", _binaries()
        _run(user, binaries / "initdb", "-D", data, "-U", "seg", "-A", "trust", "--no-sync")
        control = [binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
        _run(user, *control, "-o", f"-c listen_addresses='' -k {folder}", "start")
        try:
            yield f"postgresql+psycopg2://seg@/postgres?host={folder}"
        finally:
            _run(user, *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path:
    """Where Debian puts them; the newest."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4])
    )
    if not found:
        sys.exit("no Postgres in /usr/lib/postgresql: sudo apt-get install -y postgresql")
    return found[-1].parent


def _other_user(folder: Path) -> list[str]:
    """How to become somebody else who owns the folder: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    return ["runuser", "-u", "postgres", "--"]


def _run(user: list[str], *command: object) -> None:
    words = [*user, *map(str, command)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/")
