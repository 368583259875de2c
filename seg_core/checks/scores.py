"""Whether the best of a run is worth anything: better than what looks at no image."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seg_core.evaluate.criteria import better
from seg_core.fingerprint import fingerprint
from seg_core.run import Run
from seg_core.source import Source
from seg_core.tasks.task import Task
from seg_core.validation.best import Best, read_best, read_scores
from seg_core.validation.scoring import validation_sources
from seg_core.verdicts import Verdict, read_verdicts, refuse_blocked

CHECKS = ("scores_finite", "better_than_trivial")
VERSION = 1

PERFECT = {True: 1.0, False: 0.0}
"""The best value of a score, by whether higher is better."""


def check_scores(run: Run, best: Best | None = None) -> list[Verdict]:
    """The verdicts on a run's best; those in the store where the best is still the same.

    Args:
        run: with its scores.
        best: a choice that is not written yet; the one in the store unless given.

    Raises:
        NotReady: the run was not validated.
    """
    best = best or read_best(run)
    made_from = scores_made_from(best)
    known = read_verdicts(run.store, run.folder)
    if all(name in known and known[name].made_from == made_from for name in CHECKS):
        return [known[name] for name in CHECKS]
    verdicts = [scores_finite(best, read_scores(run)), better_than_trivial(best, _trivial(run))]
    return [replace(verdict, made_from=made_from) for verdict in verdicts]


def scores_made_from(best: Best) -> str:
    """What verdicts on a best are about."""
    return fingerprint(asdict(best), VERSION)


def refuse_bad_scores(run: Run) -> None:
    """Let nothing be made with a best that failed a check; no verdict on another best counts.

    Raises:
        NotReady: it did; the check's sentence says how to mend it. Or the run has no best.
    """
    made_from = scores_made_from(read_best(run))
    found = read_verdicts(run.store, run.folder)
    current = [v for n, v in found.items() if n in CHECKS and v.made_from == made_from]
    refuse_blocked(f"what hangs from the scores of run {run.name}", current)


def scores_finite(best: Best, scores: pd.DataFrame) -> Verdict:
    """The criterion of the best is a number on every validation source."""
    parameters = json.dumps(best.parameters, sort_keys=True)
    chosen = scores[
        (scores.iteration == best.iteration)
        & (scores.parameters == parameters)
        & (scores.criterion == best.criterion)
    ]
    figures = dict(zip(chosen.dataset, chosen.score.astype(float), strict=True))
    bad = [name for name, score in figures.items() if not np.isfinite(score)]
    if figures and not bad:
        sentence = f"{best.criterion} is a number on each of {len(figures)} validation sources"
        return Verdict("scores_finite", True, "error", sentence, figures)
    sentence = (
        f"{best.criterion} of the best is no number on {', '.join(bad) or 'any source'}; validate "
        "on ROIs that hold every class, or choose another validation.criterion, in a new run"
    )
    return Verdict("scores_finite", False, "error", sentence, figures)


def better_than_trivial(best: Best, trivial: dict[str, float]) -> Verdict:
    """The best beats every segmentation that looks at no image.

    Args:
        best: the choice.
        trivial: the mean score of each such segmentation, by its name.
    """
    criterion = best.criterion
    strongest = next(iter(trivial))
    for name, score in trivial.items():
        if better(criterion, score, trivial[strongest]):
            strongest = name
    bound = trivial[strongest]
    figures = {"best": best.score, **trivial, "criterion": criterion}
    passed = better(criterion, best.score, bound)
    compared = f"{criterion} of the best is {best.score:.4g}, of {strongest} {bound:.4g}"
    if passed:
        return Verdict("better_than_trivial", True, "error", compared, figures)
    if bound == best.score == PERFECT[better(criterion, 1.0, 0.0)]:
        sentence = (
            f"{compared}: there is nothing in what is validated on that could be got wrong; "
            "validate on a ROI with more than one object or class"
        )
        return Verdict("better_than_trivial", False, "warning", sentence, figures)
    sentence = (
        f"{compared}, which looks at no image: the network has learnt nothing of use; train a new "
        "run longer (trainer.iterations), or on more or better labels"
    )
    return Verdict("better_than_trivial", False, "error", sentence, figures)


def _trivial(run: Run) -> dict[str, float]:
    """Mean score of each trivial segmentation over the validation sources, by its name."""
    config = run.frozen
    found: dict[str, list[float]] = {}
    for source in validation_sources(run):
        labels = source.labels.read(source.roi)
        for name, segmentation in trivial_segmentations(config.task, source, labels).items():
            scores = config.task.scores(segmentation, labels, source.volume.voxel_size)
            found.setdefault(name, []).append(scores[config.criterion])
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def trivial_segmentations(
    task: Task, source: Source, labels: NDArray[Any]
) -> dict[str, NDArray[np.uint64]]:
    """Segmentations of a source that look at no image, by name.

    Of objects: one segment, and equal boxes, as many as there are objects (by VOI these beat both
    one segment and every voxel on its own). Of classes: each of them everywhere.
    """
    if not task.postprocess.joins:
        return {
            f"{name} everywhere": np.full(labels.shape, number, np.uint64)
            for number, name in enumerate(task.channels)
        }
    ids, known = task.prepare(labels)
    count = max(1, len(np.unique(ids[known & (ids > 0)])))
    return {
        "one segment": np.ones(labels.shape, np.uint64),
        "equal boxes": _boxes(labels.shape, source.volume.voxel_size, count),
    }


def _boxes(
    shape: tuple[int, ...], voxel_size: tuple[float, float, float], count: int
) -> NDArray[np.uint64]:
    """About `count` boxes whose sides are of one length in nanometres."""
    side = float(np.prod(shape) * np.prod(voxel_size) / count) ** (1 / 3)
    number = np.zeros(shape, np.uint64)
    for axis, (n, size) in enumerate(zip(shape, voxel_size, strict=True)):
        step = min(n, max(1, round(side / size)))
        along = (np.arange(n) // step).astype(np.uint64)
        place = [-1 if a == axis else 1 for a in range(3)]
        number = number * np.uint64(along[-1] + 1) + along.reshape(place)
    return number + np.uint64(1)
