"""Verdicts as asset checks: by training run, each with its figures, severity and sentence."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from seg_assets.beta import unwarned
from seg_assets.partitions import RUNS
from seg_core.errors import SegError

if TYPE_CHECKING:
    from seg_core.verdicts import Verdict

    Checked = dg.MaterializeResult[None]
else:
    # of a step with checks Dagster understands the bare class only
    Checked = dg.MaterializeResult

DATASPLIT = {
    "labels_present": "Every source has labelled objects.",
    "shapes_agree": "Raw data and labels have the same shape, all sources the same voxel size.",
    "no_leak": "Nothing that is trained on is validated on.",
    "class_balance": "Foreground and every class are there in what is trained on.",
}
SCORES = {
    "scores_finite": "The criterion has a value on every validation source.",
    "better_than_trivial": "The best choice beats a segmentation that looks at nothing.",
}
PREDICTION = {
    "prediction_finite": "No voxel of the prediction is nan or infinite.",
    "not_saturated": "No block of the prediction is constant or saturated.",
    "coverage": "Every block of the ROI is predicted.",
}
SEGMENTATION = {
    "no_seams": "Segments go on across the faces of blocks as they do inside.",
    "ids_unique": "No id is that of two objects.",
    "none_lost": "Every fragment is in a segment, and no voxel is lost.",
    "up_to_date": "No block of the segmentation is behind the look-up table.",
    "unchanged": "Raw data, labels and settings are what the run was made from.",
}


@unwarned()
def specs(
    asset: Sequence[str], checks: Mapping[str, str], blocking: bool = False
) -> list[dg.AssetCheckSpec]:
    """Specs of checks by run, with what each of them says when it passes."""
    return [
        dg.AssetCheckSpec(
            name, asset=dg.AssetKey(asset), description=text, blocking=blocking, partitions_def=RUNS
        )
        for name, text in checks.items()
    ]


def result(verdict: "Verdict") -> dg.AssetCheckResult:
    """A verdict, as the step that made it returns it."""
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=verdict.check,
        severity=_severity(verdict),
        description=verdict.sentence,
        metadata=_figures(verdict),
    )


@contextmanager
def told(context: dg.AssetExecutionContext, verdicts: Sequence["Verdict"]) -> Iterator[None]:
    """Record verdicts though the body is refused: of a failed step Dagster takes no result."""
    try:
        yield
    except SegError:
        _tell(context, verdicts)
        raise


def _tell(context: dg.AssetExecutionContext, verdicts: Sequence["Verdict"]) -> None:
    for verdict in verdicts:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=context.asset_key,
            check_name=verdict.check,
            passed=verdict.passed,
            severity=_severity(verdict),
            description=verdict.sentence,
            metadata=_figures(verdict),
            partition=context.partition_key,
        )
        context.log_event(evaluation)


def _severity(verdict: "Verdict") -> dg.AssetCheckSeverity:
    return (
        dg.AssetCheckSeverity.ERROR if verdict.severity == "error" else dg.AssetCheckSeverity.WARN
    )


def _figures(verdict: "Verdict") -> dict[str, Any]:
    """Numbers as numbers, which the UI plots; what has parts as JSON."""
    return {
        name: dg.MetadataValue.json(value) if isinstance(value, dict | list) else value
        for name, value in verdict.figures.items()
        if value is not None
    }
