"""A store with the tiny run trained and validated, copied for each test; runs like it."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from tiny_run import RUN, make_volume

from seg_core.run import Run, add_run
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate


def make_project(folder: Path) -> Path:
    """The run `tiny`, with checkpoints at 4, 8 and 12."""
    store = Store(str(folder))
    make_volume(store)
    finish(add(store, "tiny"))
    return folder


def copy_of(project: Path, folder: Path, *without: str) -> Store:
    """The same files with the same dates, so that all of it is still up to date.

    Args:
        without: what is left out, by its path in the store.
    """
    shutil.copytree(project, folder, dirs_exist_ok=True)
    store = Store(str(folder))
    for path in without:
        store.remove(path)
    return store


def add(store: Store, name: str, **changed: Any) -> Run:
    """The tiny run; what is given takes the place of a part of its file or completes it."""
    content = yaml.safe_load(RUN)
    content["trainer"]["checkpoint_interval"] = 4
    for part, value in changed.items():
        content[part] = content.get(part, {}) | value
    return add_run(store, name, yaml.safe_dump(content).encode(), f"{name}.yaml")


def finish(run: Run) -> Run:
    """Train and validate a run."""
    train(run)
    validate(run)
    return run
