"""Partitions: training runs, which come and go, and for each volume every run x block."""

import re

import dagster as dg

from seg_core.run import run_names
from seg_core.schema import NAME_PATTERN
from seg_core.store import Store
from seg_core.volumes.declared import Volume

RUNS = dg.DynamicPartitionsDefinition(name="runs")
"""One key for every run file of the store."""


def group_of(volume: str) -> str:
    """The group of a volume's assets: its name, but Dagster allows no - in it."""
    return volume.replace("-", "_")


def blocks_of(volume: Volume) -> dg.MultiPartitionsDefinition:
    """Run x block of a volume; Dagster sorts dimensions by name, so keys read `block|run`."""
    blocks = dg.StaticPartitionsDefinition(list(volume.grid))
    return dg.MultiPartitionsDefinition({"run": RUNS, "block": blocks})


def new_runs(store: Store, instance: dg.DagsterInstance) -> list[str]:
    """Runs of the store that are no partitions yet; a file whose name cannot be one is no run."""
    known = set(instance.get_dynamic_partitions(str(RUNS.name)))
    return [n for n in run_names(store) if n not in known and re.fullmatch(NAME_PATTERN, n)]
