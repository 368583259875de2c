"""Scores of a run's checkpoints and parameters, and the choice of the best."""

import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_core.errors import NotReady, SegError
from seg_core.evaluate.criteria import higher_is_better
from seg_core.postprocess.postprocess import Parameters
from seg_core.run import Run

if TYPE_CHECKING:
    import pandas as pd

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


def read_scores(run: Run) -> "pd.DataFrame":
    """One row per iteration, dataset, parameters and criterion, with its score."""
    import pandas as pd

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
    return best_of(found)


def best_of(content: dict[str, Any]) -> Best:
    """The choice that `best.json` holds."""
    # JSON has no nan
    scores = {name: math.nan if s is None else s for name, s in content["scores"].items()}
    return Best(**content | {"scores": scores})


def choose(scores: "pd.DataFrame", criterion: str) -> Best:
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
