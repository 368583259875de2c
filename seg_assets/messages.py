"""Who is not looking is told: a webhook hears of backfills and retrained runs that failed."""

import json
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG

from seg_assets.promotion import TOLD, retrain_run

if TYPE_CHECKING:
    from dagster._core.execution.asset_backfill import AssetBackfillData

LOOKED_AT = 100  # newest backfills: more than end between two looks


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the webhook of SEG_WEBHOOK when a backfill ended with failures.",
)
def tell_ended_backfills(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look at the backfills that ended badly since the last look."""
    from seg_core.lifecycle.webhook import tell

    statuses = [BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.FAILED]
    ended = context.instance.get_backfills(
        filters=BulkActionsFilter(statuses=statuses), limit=LOOKED_AT
    )
    # what ended before anybody listened is no news
    known = json.loads(context.cursor) if context.cursor else [b.backfill_id for b in ended]
    news = [b for b in ended if b.backfill_id not in known]
    for backfill in news:
        failed = _failed(backfill.asset_backfill_data)
        named = ", ".join(f"{asset}: {count}" for asset, count in failed.items())
        title = backfill.title or f"Backfill {backfill.backfill_id}"
        tell(
            "backfill_failed",
            {
                "text": f"{title} ended with failures ({named or 'its page says why'})",
                "backfill": backfill.backfill_id,
                "failed_partitions": failed,
            },
        )
    context.update_cursor(json.dumps([b.backfill_id for b in ended]))
    return dg.SkipReason(f"{len(news)} backfill(s) ended with failures since the last look")


def _failed(data: "AssetBackfillData | None") -> dict[str, int]:
    """How many partitions of each asset failed, or were not begun since others failed."""
    if data is None:
        return {}
    subset = data.failed_and_downstream_subset
    keys = sorted(subset.asset_keys)
    return {key.to_user_string(): len(subset.get_partitions_subset(key)) for key in keys}


@dg.run_failure_sensor(
    monitored_jobs=[retrain_run],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the webhook of SEG_WEBHOOK when a run could not be retrained.",
)
def tell_failed_retraining(context: dg.RunFailureSensorContext) -> None:
    """Tell which steps of it failed and why, but for what was told as `not_promoted`."""
    from seg_core.lifecycle.webhook import tell

    failed = {str(e.step_key): _reason(e) for e in context.get_step_failure_events()}
    if failed and not any(failed.values()):
        return
    why = "; ".join(f"{step}: {reason}" for step, reason in failed.items() if reason)
    run = context.dagster_run.tags.get(PARTITION_NAME_TAG)
    tell(
        "retrain_failed",
        {
            "text": f"Run {run} was not retrained: {why or context.failure_event.message}",
            "run": run,
            "failed_steps": list(failed),
            "dagster_run": context.dagster_run.run_id,
        },
    )


def _reason(event: dg.DagsterEvent) -> str:
    """Why a step failed; "" where that was told."""
    data = event.step_failure_data
    if known := data.user_failure_data:
        return "" if TOLD in known.metadata else str(known.description)
    error = data.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "no reason is known"
