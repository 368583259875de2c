"""3. Validate: score checkpoints over the sweep of post-processing, and choose the best."""

import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from seg_core.datasplit import Source
from seg_core.errors import NotReady, SegError
from seg_core.evaluate import higher_is_better
from seg_core.lease import Lease
from seg_core.postprocess.postprocess import Parameters
from seg_core.run import Run
from seg_core.scoring import score, scored_from, validation_sources
from seg_core.training.checkpoint import iterations

BEST = "best.json"


@dataclass(frozen=True)
class Best:
    """What `best.json` says: nothing downstream takes another checkpoint or other parameters.

    Attributes:
        iteration: the chosen checkpoint.
        parameters: the chosen parameters of the agglomeration.
        criterion: by what they were chosen.
        score: its value, the mean over the validation sources.
        scores: all other scores of the same choice, means too.
    """

    iteration: int
    parameters: Parameters
    criterion: str
    score: float
    scores: dict[str, float]


def validate(run: Run) -> tuple[Best, int]:
    """Score the last checkpoints of a run, and choose; what was scored before is not again.

    Returns:
        The best, and how many pairs of checkpoint and source were scored by this call.

    Raises:
        NotReady: the run is not trained to its end.
        BlocksFailed: a block of a validation volume could not be made.
        Busy: another process validates this run.
        SegError: a source lies outside its volume's ROI.
    """
    config = run.frozen
    found = iterations(run)
    if config.trainer.iterations not in found:
        raise NotReady(
            f"run {run.name} is not trained to iteration {config.trainer.iterations} yet; "
            f"go on with: seg train {run.name}"
        )
    sources = validation_sources(run)
    todo = [(i, s) for i in found[-config.validation.last :] for s in sources]
    with Lease(run.store, f"{run.folder}/validate.lock", f"validation of run {run.name}"):
        return _validate(run, todo)


def _validate(run: Run, todo: list[tuple[int, Source]]) -> tuple[Best, int]:
    before, rows, made = _read(run), [], 0
    sweep, folder = run.frozen.task.postprocess.choices(), f"{run.folder}/validation"
    for iteration, source in tqdm(todo, desc=f"validate {run.name}", unit="source"):
        made_from = scored_from(run, iteration, source)
        known = before[before.made_from == made_from]
        if known.empty:
            known = score(run, iteration, source, sweep, folder).assign(made_from=made_from)
            made += 1
        rows.append(known)
    scores = pd.concat(rows, ignore_index=True)
    if made:
        buffer = io.BytesIO()
        scores.to_parquet(buffer)
        run.store.write_bytes(f"{run.folder}/scores.parquet", buffer.getvalue())
    best = choose(scores, run.frozen.criterion)
    # a process may have ended between any two of these; and the rule of choice may have changed
    kept = run.store.read_json(f"{run.folder}/{BEST}") or {}
    names = ("iteration", "parameters", "criterion")
    if made or any(kept.get(name) != getattr(best, name) for name in names):
        run.store.write_json(f"{run.folder}/{BEST}", best.__dict__)
    run.store.remove(folder)
    return best, made


def read_scores(run: Run) -> pd.DataFrame:
    """One row per iteration, dataset, parameters and criterion, with its score."""
    raw = run.store.read_bytes(f"{run.folder}/scores.parquet")
    return pd.read_parquet(io.BytesIO(raw))


def read_best(run: Run) -> Best:
    """The choice.

    Raises:
        NotReady: the run was not validated.
    """
    found = run.store.read_json(f"{run.folder}/{BEST}")
    if found is None:
        raise NotReady(f"run {run.name} has no best checkpoint yet: seg validate {run.name}")
    # JSON has no nan
    scores = {name: math.nan if s is None else s for name, s in found.pop("scores").items()}
    return Best(**found, scores=scores)


def choose(scores: pd.DataFrame, criterion: str) -> Best:
    """The iteration and parameters with the best mean of the criterion over all datasets.

    A mean is nan if the score of one dataset is: what has no score there must not win by the
    others. Of equal ones the earliest iteration is chosen.

    Raises:
        SegError: no choice has a finite score.
    """
    groups = scores.groupby(["iteration", "parameters", "criterion"]).score
    means = groups.agg(lambda values: values.to_numpy().mean()).unstack("criterion")
    if criterion not in means:
        raise SegError(f"this task has no score {criterion!r}; it has {', '.join(map(str, means))}")
    column = means[criterion].to_numpy() * (1 if higher_is_better(criterion) else -1)
    if not np.isfinite(column).any():
        raise SegError(f"no checkpoint has a finite {criterion}; the network has learnt nothing")
    row = int(np.argmax(np.where(np.isfinite(column), column, -np.inf)))
    iteration, parameters = means.index[row]
    others = {str(name): float(means[name].iloc[row]) for name in means}
    return Best(int(iteration), json.loads(parameters), criterion, others[criterion], others)


def _read(run: Run) -> pd.DataFrame:
    if run.store.exists(f"{run.folder}/scores.parquet"):
        return read_scores(run)
    return pd.DataFrame(columns=["made_from"])
