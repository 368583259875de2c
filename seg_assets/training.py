"""Assets of a run alone: what it learns from, its checkpoints, and which of them is best."""

import json
from typing import Any

import dagster as dg

from seg_assets.failures import refusals
from seg_assets.metadata import curve, table
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam

GROUP = "training"
OWNERS = ["team:segmentation"]
LOG_EVERY = 50  # iterations; every line is a row of Dagster's database


@dg.asset(partitions_def=RUNS, group_name=GROUP, owners=OWNERS, kinds={"json"})
def datasplit(context: dg.AssetExecutionContext, store: StoreParam) -> dg.MaterializeResult[None]:
    """What the run trains on and validates on: resolved, checked, fingerprinted. Freezes the run.

    A run whose data changed since is refused: new labels mean a new run.
    """
    from seg_core.datasplit import make_datasplit
    from seg_core.run import load_run

    with refusals():
        content = make_datasplit(load_run(store, context.partition_key))
    parts = {part: content[part] for part in ("train", "validate")}
    shown = ("volume", "roi", "weight", "objects", "labelled", "unknown")
    rows = [{"part": p, **{k: s[k] for k in shown}} for p, found in parts.items() for s in found]
    objects = {f"{p}_objects": sum(s["objects"] for s in found) for p, found in parts.items()}
    return dg.MaterializeResult(
        metadata={"sources": table(rows), **objects, "fingerprint": content["fingerprint"]}
    )


@dg.asset(partitions_def=RUNS, group_name=GROUP, owners=OWNERS, kinds={"pytorch"}, deps=[datasplit])
def checkpoint(context: dg.AssetExecutionContext, store: StoreParam) -> dg.MaterializeResult[None]:
    """The network's weights, every so many iterations, and the training curve.

    Interrupted, it goes on exactly; trained to the end, it is never trained again in place.
    """
    from seg_core.run import load_run
    from seg_core.train import train, training_rows

    def log(row: dict[str, float]) -> None:
        if row["iteration"] % LOG_EVERY == 0:
            context.log.info(f"iteration {row['iteration']:.0f}: loss {row['loss']:.4f}")

    with refusals():
        run = load_run(store, context.partition_key)
        done = train(run, log)
    rows = training_rows(run)
    return dg.MaterializeResult(
        metadata={
            "loss": float(rows.loss.tail(LOG_EVERY).mean()),
            "iterations": len(rows),
            "iterations_now": done,
            "seconds": float(rows.seconds.sum()),
            "curve": curve(rows.iteration.tolist(), rows.loss.tolist(), "iteration", "loss"),
            "checkpoints": dg.MetadataValue.path(run.store.path(f"{run.folder}/checkpoints")),
        }
    )


@dg.asset(
    partitions_def=RUNS, group_name=GROUP, owners=OWNERS, kinds={"parquet"}, deps=[checkpoint]
)
def validation_scores(
    context: dg.AssetExecutionContext, store: StoreParam
) -> dg.MaterializeResult[None]:
    """Scores of the last checkpoints over the sweep of post-processing, and the best of all.

    Everything downstream takes the checkpoint and the parameters that were chosen here.
    """
    from seg_core.run import load_run
    from seg_core.validate import read_scores, validate

    with refusals():
        run = load_run(store, context.partition_key)
        best, made = validate(run)
    return dg.MaterializeResult(
        metadata={
            "score": best.score,
            "criterion": best.criterion,
            "iteration": best.iteration,
            "parameters": dg.MetadataValue.json(best.parameters),
            **best.scores,
            "table": table(_sweep(read_scores(run))),
            "scored_now": made,
        }
    )


def _sweep(scores: Any) -> list[dict[str, Any]]:
    """One row for every choice, its scores beside each other."""
    index = ["iteration", "dataset", "parameters"]
    wide = scores.pivot_table("score", index, "criterion").reset_index()
    rows: list[dict[str, Any]] = wide.to_dict("records")
    for row in rows:
        chosen = json.loads(row["parameters"])
        row["parameters"] = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    return rows
