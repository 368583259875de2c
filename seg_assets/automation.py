"""What Dagster does by itself: partitions of new runs, backfills of what failed."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from seg_assets.backfill import start_backfill, tag_of
from seg_assets.partitions import RUNS, new_runs
from seg_assets.resources import StoreParam
from seg_core.errors import NotReady, SegError
from seg_core.fingerprint import fingerprint
from seg_core.run import load_run, run_names
from seg_core.store import Store
from seg_core.volumes.declared import load_volume, volume_names

if TYPE_CHECKING:
    from seg_core.run import Run
    from seg_core.states import Unfinished
    from seg_core.volumes.declared import Volume

TRIES = 3
"""How often a block is tried, and the same backfill started, before it is left to a person."""


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes a partition of every run file in the store; never takes one away.",
)
def register_runs(
    context: dg.SensorEvaluationContext, store: StoreParam
) -> dg.SensorResult | dg.SkipReason:
    """Add a partition key for every new run file."""
    found = new_runs(store, context.instance)
    if not found:
        return dg.SkipReason("no new file in runs/")
    return dg.SensorResult(dynamic_partitions_requests=[RUNS.build_add_request(found)])


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Makes again what is failed, missing or stale of every volume that a run has begun "
    f"to segment; what failed {TRIES} times is left, with its reason.",
)
def backfill_failed_blocks(context: dg.SensorEvaluationContext, store: StoreParam) -> dg.SkipReason:
    """Start one backfill for each run and volume of which something is due."""
    before: dict[str, list[str]] = json.loads(context.cursor or "{}")
    now: dict[str, list[str]] = {}
    said = []
    for run, volume, due in _unfinished(store):
        (name,) = tag_of(run.name, volume.name).values()
        looks_like = fingerprint(due.blocks, due.whole)
        tried = [t for t in before.get(name, []) if t == looks_like]
        now[name] = tried
        given_up = sum(len(reasons) for reasons in due.given_up.values())
        if given_up:
            said.append(f"{name}: {given_up} block(s) failed {TRIES} times and are left alone")
        if not due:
            continue
        if at_work(context.instance, run.name, volume.name):
            said.append(f"{name}: is being made")
        elif len(tried) >= TRIES:
            said.append(f"{name}: {TRIES} backfills changed nothing; see why in the last one")
        else:
            backfill = start_backfill(context.instance, run, volume, due, "sensor")
            now[name] = [*tried, looks_like]
            said.append(f"{name}: backfill {backfill} started")
    context.update_cursor(json.dumps(now))
    return dg.SkipReason("; ".join(said) or "nothing is due")


def _unfinished(store: Store) -> Iterator[tuple["Run", "Volume", "Unfinished"]]:
    """Every run and volume that was begun, and what is due of it."""
    from seg_core.states import begun, unfinished

    for volume_name in volume_names(store):
        for run_name in run_names(store):
            try:
                run, volume = load_run(store, run_name), load_volume(store, volume_name)
                if begun(run, volume):
                    yield run, volume, unfinished(run, volume, TRIES)
            except NotReady:
                continue  # a check stopped it, or it is not validated
            except SegError:
                continue  # a broken file: its own page says so, and the others go on


def at_work(instance: dg.DagsterInstance, run: str, volume: str) -> bool:
    """Whether a backfill of ours, or any dagster run of this run's partitions, has not ended."""
    open_statuses = [s for s in BulkActionStatus if s not in BULK_ACTION_TERMINAL_STATUSES]
    ours = BulkActionsFilter(statuses=open_statuses, tags=tag_of(run, volume))
    if instance.get_backfills(filters=ours, limit=1):
        return True
    unfinished = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return any(
        asset.path[0] == volume for found in unfinished for asset in found.asset_selection or ()
    )
