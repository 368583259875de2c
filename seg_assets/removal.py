"""Runs are archived or deleted from the UI: job `remove_run`."""

import dagster as dg
from pydantic import Field

from seg_assets.failures import refusals
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam


class Remove(dg.Config):
    """What is removed."""

    run: str = Field(description="Name of the run.")
    archive: bool = Field(
        default=True,
        description="Keep config, scores, reports and the best checkpoint, and free the rest; "
        "false: delete all of it.",
    )
    dry_run: bool = Field(default=True, description="Only say what would be freed.")


@dg.op(name="remove", out=dg.Out(dg.Nothing))
def _remove(context: dg.OpExecutionContext, config: Remove, store: StoreParam) -> None:
    """Say what is freed, and free it."""
    from seg_core.lifecycle.removal import plan_removal, remove

    with refusals():
        plan = plan_removal(store, config.run, archive=config.archive)
        verb = "archiving" if config.archive else "deleting"
        context.log.info(f"{verb} run {config.run} frees {plan.bytes / 1e6:,.1f} MB")
        if config.dry_run:
            context.log.info("nothing was removed: set dry_run to false for that")
            return
        freed = remove(store, plan)
    if not config.archive:
        context.instance.delete_dynamic_partition(str(RUNS.name), config.run)
    context.log.info(f"run {config.run}: freed {freed / 1e6:,.1f} MB")


@dg.job(
    name="remove_run",
    executor_def=dg.in_process_executor,
    description="Archives a run (keeps config, scores, reports and the best checkpoint) or "
    "deletes it; promoted runs and their ancestors are protected.",
)
def remove_run() -> None:
    """One step."""
    _remove()
