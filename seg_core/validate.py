"""3. Validate: score checkpoints over the sweep of post-processing, and choose the best."""

import io
import json
import logging
from collections.abc import Callable

import pandas as pd
from tqdm import tqdm

from seg_core.checks.scores import check_scores
from seg_core.errors import NotReady, SegError
from seg_core.lease import Lease
from seg_core.run import Run
from seg_core.store import to_json
from seg_core.train import OnLog, train
from seg_core.training.checkpoint import iterations
from seg_core.validation.best import BEST, Best, best_of, choose, read_best, read_scores
from seg_core.validation.scoring import score, scored_from, validation_sources
from seg_core.verdicts import write_verdicts

LOG = logging.getLogger(__name__)


def validate(run: Run) -> tuple[Best, int]:
    """Score the last checkpoints of a run, and choose; what was scored before is not again.

    The verdicts on the best are written too; what hangs from it refuses while one fails.

    Returns:
        The best, and how many pairs of checkpoint and source were scored by this call.

    Raises:
        NotReady: the run is not trained to its end.
        BlocksFailed: a block of a validation volume could not be made.
        Busy: another process validates this run.
        SegError: a source lies outside its volume's ROI.
    """
    if run.is_archived:  # the other checkpoints are gone
        return read_best(run), 0
    config = run.frozen
    found = iterations(run)
    if config.trainer.iterations not in found:
        raise NotReady(
            f"run {run.name} is not trained to iteration {config.trainer.iterations} yet; "
            f"go on with: seg train {run.name}"
        )
    last, interval = config.validation.last, config.validation.interval
    with _lease(run):
        scores, made = _scored(run, sorted({*found[-last:], *_at_interval(found, interval)}))
        return _chosen(run, scores), made


def train_and_score(
    run: Run,
    on_log: OnLog | None = None,
    on_score: Callable[[int, Best], None] | None = None,
) -> int:
    """Train a run to its end, and score its checkpoints at `validation.interval` on the way.

    Args:
        run: the run.
        on_log: as for `train`.
        on_score: called with the iteration scored last and the best so far.

    Returns:
        The number of iterations done by this call.

    Raises:
        SegError: as `train`, or as `validate`.
    """
    interval = run.config.validation.interval

    def score_so_far(iteration: int) -> None:
        if not _at_interval([iteration], interval):
            return
        try:
            with _lease(run):
                scores, _ = _scored(run, _at_interval(iterations(run), interval))
            best = choose(scores, run.frozen.criterion)
        except SegError as error:  # nothing that is trained needs it: `validate` comes to it again
            LOG.warning("checkpoint %d of run %s is not scored: %s", iteration, run.name, error)
        else:
            if on_score:
                on_score(iteration, best)

    return train(run, on_log, score_so_far)


def _at_interval(found: list[int], interval: int | None) -> list[int]:
    return [i for i in found if interval and i % interval == 0]


def _lease(run: Run) -> Lease:
    return Lease(run.store, f"{run.folder}/validate.lock", f"validation of run {run.name}")


def _scored(run: Run, checkpoints: list[int]) -> tuple[pd.DataFrame, int]:
    """Scores of checkpoints on all sources, and how many pairs of these were scored just now."""
    todo = [(i, source) for i in checkpoints for source in validation_sources(run)]
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
    run.store.remove(folder)
    return scores, made


def _chosen(run: Run, scores: pd.DataFrame) -> Best:
    """The best of all, written after the verdicts on it: no process finds it without them."""
    best, path = choose(scores, run.frozen.criterion), f"{run.folder}/{BEST}"
    content = json.loads(to_json(best.__dict__))
    changed = run.store.read_json(path) != content
    if changed:
        run.store.remove_file(path)  # the verdicts on that one are overwritten
    write_verdicts(run.store, run.folder, check_scores(run, best_of(content)))
    if changed:
        run.store.write_json(path, content)
    return best


def _read(run: Run) -> pd.DataFrame:
    if run.store.exists(f"{run.folder}/scores.parquet"):
        return read_scores(run)
    return pd.DataFrame(columns=["made_from"])
