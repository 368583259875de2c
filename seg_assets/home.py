"""Where Dagster keeps its own records on this machine: DAGSTER_HOME."""

import os
import shutil
from pathlib import Path

import dagster as dg
from dagster._core.instance import InstanceRef

DEFAULT_HOME = ".local/dagster"
SETTINGS = Path(__file__).with_name("dagster.yaml")


def make_home() -> Path:
    """The folder, made with our settings where it is not there yet; settings there are kept."""
    home = Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME).absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(SETTINGS, home / "dagster.yaml")
    return home


def open_instance() -> dg.DagsterInstance:
    """Dagster's records, for runs in this process: what they print stays on its terminal.

    Dagster would send it through a file and a `tail`, where progress bars know no width.
    """
    silent = {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
    ref = InstanceRef.from_dir(str(make_home()), overrides={"compute_logs": silent})
    return dg.DagsterInstance.from_ref(ref)
