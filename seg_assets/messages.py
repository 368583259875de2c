"""Who is not looking is told: a webhook hears of backfills that ended with failures."""

import json
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

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
