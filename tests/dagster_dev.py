"""A real `dagster dev` (webserver, daemon, code server) on loopback, spoken to through GraphQL."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from seg_assets.home import SETTINGS

PROJECT = Path(__file__).parents[1]
# dagster gives SIGTERM the handler of SIGINT: none where the shell had set that to be ignored
HEED_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 120) -> T:
    """The first answer that is not empty."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.3)
    raise TimeoutError(f"waited {seconds} s for {what}")


class DagsterDev:
    """Started on entry, stopped with all its children on exit."""

    def __init__(self, folder: Path, store: str) -> None:
        self.home, self.log = folder / "home", folder / "dagster.log"
        self.home.mkdir()
        shutil.copyfile(SETTINGS, self.home / "dagster.yaml")
        self.environment = {**os.environ, "DAGSTER_HOME": str(self.home), "SEG_STORE": store}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> "DagsterDev":
        dagster = str(Path(sys.executable).with_name("dagster"))
        command = [sys.executable, "-c", HEED_INTERRUPTS, dagster, "dev", "-h", "127.0.0.1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-p", str(self.port)],
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for("the webserver", self._serves)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            kill_group(self.process.pid)

    def _serves(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            found = self.ask(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
            )
        except OSError:
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL query or mutation."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


def kill_group(group: int) -> None:
    """End a process and all that it started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
