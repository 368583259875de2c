"""3. Validate: score checkpoints over the sweep of post-processing, and choose the best."""

import io

import pandas as pd
from tqdm import tqdm

from seg_core.best import BEST, Best, choose, read_scores
from seg_core.checks.scores import check_scores
from seg_core.errors import NotReady
from seg_core.lease import Lease
from seg_core.run import Run
from seg_core.scoring import score, scored_from, validation_sources
from seg_core.source import Source
from seg_core.training.checkpoint import iterations
from seg_core.verdicts import write_verdicts


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
    write_verdicts(run.store, run.folder, check_scores(run))
    run.store.remove(folder)
    return best, made


def _read(run: Run) -> pd.DataFrame:
    if run.store.exists(f"{run.folder}/scores.parquet"):
        return read_scores(run)
    return pd.DataFrame(columns=["made_from"])
