"""Where Dagster keeps its own records on this machine: DAGSTER_HOME."""

import os
import shutil
from pathlib import Path

DEFAULT_HOME = ".local/dagster"
SETTINGS = Path(__file__).with_name("dagster.yaml")


def make_home() -> Path:
    """The folder, made with our settings where it is not there yet; settings there are kept."""
    home = Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME).absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(SETTINGS, home / "dagster.yaml")
    return home
