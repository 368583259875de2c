"""Whether a run is alive, as run monitoring asks the launcher."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from seg_assets.launcher import PROCESS_TAG, LocalRunLauncher, process_tag


def status(tags: dict[str, str]) -> WorkerStatus:
    launcher = LocalRunLauncher()
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(dg.DagsterRun("job", tags=tags)).status


def test_a_run_dies_with_its_code_server(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": path})}
    assert status(tags) == WorkerStatus.FAILED
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert status(tags) == WorkerStatus.RUNNING
    assert Path(path).exists()  # as after a kill
    assert status(tags) == WorkerStatus.FAILED


def test_a_code_server_at_a_port() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "port": server.getsockname()[1]})}
        server.listen()
        assert status(tags) == WorkerStatus.RUNNING
    assert status(tags) == WorkerStatus.FAILED


def test_a_run_dies_with_the_process_that_it_runs_in() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    here = process_tag()[PROCESS_TAG].split(" ")[0]
    assert status(process_tag()) == WorkerStatus.RUNNING
    assert status({PROCESS_TAG: f"{here} {ended.pid}"}) == WorkerStatus.FAILED
    assert status({PROCESS_TAG: f"not-{here} {ended.pid}"}) == WorkerStatus.RUNNING


def test_a_run_that_nothing_is_known_of_is_left_alone() -> None:
    assert status({}) == WorkerStatus.RUNNING
