"""What Dagster does by itself: partitions of new runs, backfills of what failed."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from seg_assets.backfill import at_work, start_backfill, started_before
from seg_assets.partitions import RUNS, new_runs
from seg_assets.resources import StoreParam
from seg_core.errors import SegError
from seg_core.run import load_run, run_names
from seg_core.store import Store
from seg_core.volumes.declared import load_volume, volume_names

if TYPE_CHECKING:
    from seg_core.states import Unfinished

TRIES = 3
"""How often a block is tried, and the same backfill started, before it is left to a person."""
LOOK_SECONDS = 20.0  # Dagster ends a look after 60 s, and then forgets what it did


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
    """Start one backfill for each run and volume of which something is due.

    A look at a large volume takes its time: what this one has no time for is the next one's.
    """
    until, said = time.monotonic() + LOOK_SECONDS, []
    for run, volume in _pairs(store, context.cursor):
        if time.monotonic() > until:
            break
        context.update_cursor(f"{run} on {volume}")
        if what := _look(context.instance, store, run, volume):
            said.append(f"{run} on {volume}: {what}")
    return dg.SkipReason("; ".join(said) or "nothing is due")


def _pairs(store: Store, last: str | None) -> list[tuple[str, str]]:
    """Every run and volume, those first that come after the one looked at last."""
    pairs = [(run, volume) for volume in volume_names(store) for run in run_names(store)]
    names = [f"{run} on {volume}" for run, volume in pairs]
    first = names.index(last) + 1 if last in names else 0
    return pairs[first:] + pairs[:first]


def _look(instance: dg.DagsterInstance, store: Store, run: str, volume: str) -> str:
    """Start the backfill of what is due, and say so; "" where nothing is."""
    from seg_core.states import begun, unfinished

    try:
        found, declared = load_run(store, run), load_volume(store, volume)
        if not begun(found, declared):
            return ""
        if at_work(instance, run, volume):
            return "is being made"
        due = unfinished(found, declared, TRIES)
    except SegError:
        return ""  # a broken file, a failed check: its own page says so, and the others go on
    if not due:
        return _given_up(due)
    if started_before(instance, run, volume, due) >= TRIES:
        return f"{TRIES} backfills changed nothing; see why in the last one"
    backfill = start_backfill(instance, found, declared, due, "sensor")
    return "; ".join(filter(None, (f"backfill {backfill} started", _given_up(due))))


def _given_up(due: "Unfinished") -> str:
    count = sum(len(reasons) for reasons in due.given_up.values())
    return f"{count} block(s) failed {TRIES} times and are left alone" if count else ""
