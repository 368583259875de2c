"""Two runs on the same sources: each by its own best checkpoint and parameters."""

import math

import pandas as pd

from seg_core.datasplit import read_datasplit
from seg_core.fingerprint import fingerprint
from seg_core.lease import Lease
from seg_core.run import Run
from seg_core.source import Source
from seg_core.validation.best import Best, read_best, read_scores
from seg_core.validation.scoring import score, scored_from, to_text

Scores = dict[str, float]


def compared_from(runs: list[Run], sources: list[Source], criterion: str) -> str:
    """A fingerprint of everything that decides how runs compare on these sources."""
    sides = []
    for run in runs:
        best = read_best(run)
        scored = [scored_from(run, best.iteration, source) for source in sources]
        sides.append([run.name, best.parameters, scored])
    return fingerprint(sides, criterion)


def why_incomparable(run: Run, other: Run) -> str:
    """Why scores of two runs say nothing about which is better; "" where they do."""
    ours, theirs = run.frozen.task, other.frozen.task
    if ours.kind != theirs.kind:
        return f"its task is {ours.kind}, that of run {other.name} is {theirs.kind}"
    if not ours.postprocess.joins and ours.channels != theirs.channels:
        return f"its classes are {ours.channels}, those of run {other.name} are {theirs.channels}"
    channels, others = (read_datasplit(r)["channels"] for r in (run, other))
    if channels != others:
        return f"its raw data has {channels} channel(s), that of run {other.name} has {others}"
    if run.frozen.criterion not in read_best(other).scores:
        return f"run {other.name} has no score {run.frozen.criterion!r}"
    return ""


def mean_score(run: Run, sources: list[Source], criterion: str) -> float:
    """A score of the run's best, the mean over sources; nan where one of them has none.

    Raises:
        NotReady: the run was not validated.
        BlocksFailed: a block of a source's volume could not be made.
        Busy: another process scores the same.
    """
    best = read_best(run)
    found = [_scores(run, best, source).get(criterion, math.nan) for source in sources]
    return sum(found) / len(found)


def _scores(run: Run, best: Best, source: Source) -> Scores:
    """All scores of a run's best on a source; what was scored before, by whomever, is not again."""
    made_from = scored_from(run, best.iteration, source)
    if found := _of_validation(run, best, made_from):
        return found
    name = f"{run.folder}/compared/{fingerprint(made_from, best.parameters)}"
    with Lease(run.store, f"{name}.lock", f"scoring of run {run.name} on {source.name}"):
        kept = run.store.read_json(f"{name}.json")
        if kept is None:
            table = score(run, best.iteration, source, [best.parameters], name)
            kept = {"iteration": best.iteration, "dataset": source.name, "scores": _by_name(table)}
            run.store.write_json(f"{name}.json", kept)
        run.store.remove(name)
    # JSON has no nan
    return {k: math.nan if value is None else value for k, value in kept["scores"].items()}


def _of_validation(run: Run, best: Best, made_from: str) -> Scores:
    table = read_scores(run)
    same = (table.made_from == made_from) & (table.parameters == to_text(best.parameters))
    return _by_name(table[same])


def _by_name(table: pd.DataFrame) -> Scores:
    return {str(k): float(v) for k, v in zip(table.criterion, table.score, strict=True)}
