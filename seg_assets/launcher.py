"""Runs on one machine that knows its dead: after a power cut nothing is "started" for ever.

Dagster's own launcher never asks. A run whose process was killed with all of `dagster dev` would
hold one of the few places of the queue until somebody ends it by hand.
"""

import json
import os
import socket

from dagster._core.launcher import DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import GRPC_INFO_TAG

PROCESS_TAG = "seg/process"


def process_tag() -> dict[str, str]:
    """The tag of a run in this process, which no code server looks after."""
    return {PROCESS_TAG: f"{socket.gethostname()} {os.getpid()}"}


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with an answer to the question whether a run is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Makes run monitoring ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Failed where the process, or the code server that would notice its death, is gone."""
        if PROCESS_TAG in run.tags:
            host, pid = run.tags[PROCESS_TAG].split(" ")
            alive = host != socket.gethostname() or _lives(int(pid))
        else:
            alive = GRPC_INFO_TAG not in run.tags or _listens(json.loads(run.tags[GRPC_INFO_TAG]))
        if alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its process was killed")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _listens(server: dict[str, str]) -> bool:
    """Whether somebody takes connections: a busy machine is slow to answer, but never refuses."""
    local = "socket" in server
    address = server["socket"] if local else (server["host"], int(server["port"]))
    with socket.socket(socket.AF_UNIX if local else socket.AF_INET) as connection:
        try:
            connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
