"""What Dagster does by itself."""

import dagster as dg

from seg_assets.partitions import RUNS, new_runs
from seg_assets.resources import StoreParam


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
