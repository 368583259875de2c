"""Assets of a run alone: what it learns from, its checkpoints, and which of them is best."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from seg_assets.checks import DATASPLIT, SCORES, Checked, result, specs
from seg_assets.failures import refusals
from seg_assets.kubernetes import pods
from seg_assets.metadata import picture, sweep_table, table
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam

if TYPE_CHECKING:
    from seg_core.run import Run
    from seg_core.validation.best import Best

GROUP = "training"
OWNERS = ["team:segmentation"]
TELL_SECONDS = 30.0  # every point of a live curve is a row of Dagster's database
DATASPLIT_KEY, CHECKPOINT_KEY, SCORES_KEY = (
    dg.AssetKey(name) for name in ("datasplit", "checkpoint", "validation_scores")
)


def training_assets(sources: Sequence[dg.AssetKey] = ()) -> list[dg.AssetsDefinition]:
    """Datasplit, checkpoint and validation scores; `sources` are all volumes' raw and labels."""
    return [_datasplit(sources), checkpoint, validation_scores]


def _datasplit(sources: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        key=DATASPLIT_KEY,
        partitions_def=RUNS,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"json"},
        deps=sources,
        check_specs=specs(["datasplit"], DATASPLIT, blocking=True),
        **pods.options("datasplit"),
    )
    def datasplit(context: dg.AssetExecutionContext, store: StoreParam) -> Checked:
        """What the run trains on and validates on: resolved, checked, fingerprinted; frozen.

        A run whose data changed since is refused: new labels mean a new run.
        """
        from seg_core.datasplit import make_datasplit
        from seg_core.report.pictures import draw_sources
        from seg_core.run import load_run

        with refusals():
            run = load_run(store, context.partition_key)
            content = make_datasplit(run)
        return dg.MaterializeResult(
            metadata={
                **_sources(content),
                "fingerprint": content["fingerprint"],
                "sections": picture(draw_sources(run), "raw and labels of every source"),
            },
            check_results=_results(context, run, DATASPLIT),
        )

    return datasplit


def _sources(content: dict[str, Any]) -> dict[str, Any]:
    """A table of all sources, and how many objects each part has."""
    parts = {part: content[part] for part in ("train", "validate")}
    shown = ("volume", "roi", "weight", "objects", "labelled", "unknown")
    rows = [{"part": p, **{k: s[k] for k in shown}} for p, found in parts.items() for s in found]
    objects = {f"{p}_objects": sum(s["objects"] for s in found) for p, found in parts.items()}
    return {"sources": table(rows), **objects}


def _results(
    context: dg.AssetExecutionContext, run: "Run", checks: dict[str, str]
) -> list[dg.AssetCheckResult]:
    """The verdicts that a step has just written; Dagster fails the step without saying why."""
    from seg_core.verdicts import read_verdicts

    found = read_verdicts(run.store, run.folder)
    verdicts = [found[name] for name in checks]
    for verdict in verdicts:
        if verdict.blocks:
            context.log.error(f"{verdict.check}: {verdict.sentence}")
    return [result(verdict) for verdict in verdicts]


@dg.asset(
    key=CHECKPOINT_KEY,
    partitions_def=RUNS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    deps=[DATASPLIT_KEY],
    **pods.options("checkpoint"),
)
def checkpoint(context: dg.AssetExecutionContext, store: StoreParam) -> dg.MaterializeResult[None]:
    """The network's weights, every so many iterations, and the training curve.

    Interrupted, it goes on exactly; trained to the end, it is never trained again in place.
    """
    from seg_core.report.charts import draw_curve, draw_learning_rate
    from seg_core.run import load_run
    from seg_core.train import training_rows
    from seg_core.validate import train_and_score

    with refusals():
        run = load_run(store, context.partition_key)
        done = train_and_score(run, _live_curve(context), _live_score(context))
    rows = training_rows(run)
    return dg.MaterializeResult(
        metadata={
            "loss": float(rows.loss.tail(50).mean()),
            "iteration": len(rows),
            "iterations_now": done,
            "seconds": float(rows.seconds.sum()),
            "curve": picture(draw_curve(rows), "loss"),
            "learning rate": picture(draw_learning_rate(rows), "learning rate"),
            "checkpoints": dg.MetadataValue.path(run.store.path(f"{run.folder}/checkpoints")),
        }
    )


def _live_curve(context: dg.AssetExecutionContext) -> Callable[[dict[str, float]], None]:
    """Tells the loss while it trains, as an observation: the UI plots it over time."""
    losses: list[float] = []
    told = time.monotonic()

    def log(row: dict[str, float]) -> None:
        nonlocal told
        losses.append(row["loss"])
        if time.monotonic() - told < TELL_SECONDS:
            return
        figures = {"iteration": int(row["iteration"]), "loss": sum(losses) / len(losses)}
        _observe(context, {**figures, "learning rate now": row["learning_rate"]})
        losses.clear()
        told = time.monotonic()

    return log


def _live_score(context: dg.AssetExecutionContext) -> "Callable[[int, Best], None]":
    """Tells the best score so far whenever a checkpoint is scored while it trains."""

    def scored(iteration: int, best: "Best") -> None:
        _observe(context, {"iteration": iteration, "best score": best.score})

    return scored


def _observe(context: dg.AssetExecutionContext, figures: dict[str, float]) -> None:
    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    context.log_event(
        dg.AssetObservation(
            context.asset_key,
            description=text,
            metadata=figures,
            partition=context.partition_key,
        )
    )


@dg.asset(
    key=SCORES_KEY,
    partitions_def=RUNS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    deps=[CHECKPOINT_KEY],
    check_specs=specs(["validation_scores"], SCORES, blocking=True),
    **pods.options("validation_scores"),
)
def validation_scores(context: dg.AssetExecutionContext, store: StoreParam) -> Checked:
    """Scores of the last checkpoints over the sweep of post-processing, and the best of all.

    Everything downstream takes the checkpoint and the parameters that were chosen here.
    """
    from seg_core.report.charts import draw_sweep
    from seg_core.run import load_run
    from seg_core.validate import validate
    from seg_core.validation.best import read_scores

    with refusals():
        run = load_run(store, context.partition_key)
        best, made = validate(run)
    scores = read_scores(run)
    return dg.MaterializeResult(
        metadata={
            "best score": best.score,
            "criterion": best.criterion,
            "iteration": best.iteration,
            "parameters": dg.MetadataValue.json(best.parameters),
            **best.scores,
            "table": sweep_table(scores),
            "sweep": picture(draw_sweep(scores, best.criterion), best.criterion),
            "scored_now": made,
        },
        check_results=_results(context, run, SCORES),
    )


train_run = dg.define_asset_job(
    "train_run",
    dg.AssetSelection.assets(DATASPLIT_KEY, CHECKPOINT_KEY, SCORES_KEY),
    description="Datasplit, checkpoints and validation scores of one run.",
)
