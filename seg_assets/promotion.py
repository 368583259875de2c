"""Promotion: the run that is used from now on, retraining by schedule, and the way back."""

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._utils.schedules import is_valid_cron_schedule

from seg_assets.checks import Checked, result, specs, told
from seg_assets.failures import refusals
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam
from seg_assets.training import CHECKPOINT_KEY, DATASPLIT_KEY, OWNERS, SCORES_KEY
from seg_core.errors import NotReady, SegError
from seg_core.lifecycle.retrain import FILE, RetrainConfig, load_retrain, next_run
from seg_core.store import Store

CHECK = {"no_regression": "Not worse than the promoted run on the same validation volumes."}

TOLD = "webhook_told"
"""In the metadata of a failure of which the webhook was told where it came up."""


class Promote(dg.Config):
    """What can be set in the launchpad."""

    anyway: bool = False
    """Promote it although the comparison says no."""


@dg.asset(
    key="promotion",
    partitions_def=RUNS,
    group_name="promotion",
    owners=OWNERS,
    kinds={"json"},
    deps=[SCORES_KEY],
    check_specs=specs(["promotion"], CHECK),
)
def promotion(context: dg.AssetExecutionContext, config: Promote, store: StoreParam) -> Checked:
    """The promoted run: compared with the one before on the same validation volumes.

    A run that got worse beyond the tolerance of retrain.yaml is not promoted. All promotions
    stay in the store; the job `roll_back` returns to the one before.
    """
    from seg_core.lifecycle.promotion import compare, promote, promoted
    from seg_core.lifecycle.webhook import tell
    from seg_core.run import load_run

    with refusals():
        run = load_run(store, context.partition_key)
        verdict = compare(run, _tolerance(store))
        before = promoted(store)
        try:
            with told(context, [verdict]):
                promote(run, anyway=config.anyway, why="materialized in Dagster")
        except NotReady as refused:
            tell("not_promoted", {"text": str(refused), "run": run.name, **verdict.figures})
            raise dg.Failure(str(refused), {TOLD: True}, allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "promoted": run.name,
            "before": before or "none",
            "comparison": verdict.sentence,
        },
        check_results=[result(verdict)],
    )


def _tolerance(store: Store) -> float:
    config = load_retrain(store)
    return config.tolerance if config else 0.0


@dg.op(name="return_to_the_one_before", out=dg.Out(dg.Nothing))
def _roll_back(context: dg.OpExecutionContext, store: StoreParam) -> None:
    """Return to the run that was promoted before."""
    from seg_core.lifecycle.promotion import promoted, roll_back

    with refusals():
        before = promoted(store)
        now = roll_back(store)
    context.log.info(f"promoted is {now} again, and no longer {before}")
    context.log_event(
        dg.AssetMaterialization(
            "promotion",
            partition=now,
            description=f"rolled back from {before}",
            metadata={"promoted": now, "before": str(before)},
        )
    )


@dg.job(
    name="roll_back",
    executor_def=dg.in_process_executor,
    description="Returns to the run that was promoted before the present one.",
)
def roll_back_job() -> None:
    """One step."""
    _roll_back()


retrain_run = dg.define_asset_job(
    "retrain_run",
    dg.AssetSelection.assets(DATASPLIT_KEY, CHECKPOINT_KEY, SCORES_KEY, "promotion"),
    description="Trains and validates a run, and promotes it unless it is worse.",
)


def retrain_schedule(store: Store) -> dg.ScheduleDefinition:
    """The schedule of the store's retrain.yaml; without one it waits for that file."""
    config, problem = _config(store)

    @dg.schedule(
        name="retrain",
        job=retrain_run,
        cron_schedule=config.cron if config else "0 0 * * 0",
        execution_timezone=config.timezone if config else "UTC",
        default_status=(
            dg.DefaultScheduleStatus.RUNNING if config else dg.DefaultScheduleStatus.STOPPED
        ),
        description=_about(config, problem),
    )
    def retrain(
        context: dg.ScheduleEvaluationContext, store: StoreParam
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            found = next_run(store, context.scheduled_execution_time)
        except SegError as error:
            return dg.SkipReason(str(error))
        if isinstance(found, str):
            return dg.SkipReason(found)
        if at_work := _unended(context.instance, found.name):
            return dg.SkipReason(f"run {found.name} is being made by Dagster's run {at_work}")
        context.instance.add_dynamic_partitions(str(RUNS.name), [found.name])
        # one that failed is launched again by a later tick
        key = f"{found.name} at {context.scheduled_execution_time.isoformat()}"
        return dg.RunRequest(run_key=key, partition_key=found.name)

    return retrain


def _unended(instance: dg.DagsterInstance, partition: str) -> str | None:
    """A run of Dagster for this partition that has not ended; between steps it has no lease."""
    runs = instance.get_runs(
        dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, tags={PARTITION_NAME_TAG: partition}), limit=1
    )
    return runs[0].run_id if runs else None


def _config(store: Store) -> tuple[RetrainConfig | None, str]:
    """What is usable of the store's file; a problem takes nothing else that is served away."""
    try:
        config = load_retrain(store)
    except SegError as error:
        return None, str(error)
    if config and not is_valid_cron_schedule(config.cron):
        return None, f"{store.path(FILE)}: cron: {config.cron!r} is none that Dagster takes"
    return config, ""


def _about(config: RetrainConfig | None, problem: str) -> str:
    if config is None:
        return problem or (
            "Retrains by a cron, once the store has a file retrain.yaml with template and cron; "
            "reload the definitions after writing it."
        )
    return (
        f"A new run like {config.template}, from the promoted one, if labels or settings changed; "
        f"promoted unless it is worse by more than {config.tolerance:g}."
    )
