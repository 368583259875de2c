"""Which run is promoted: the one that the next is compared with, and starts from."""

import math
from typing import Any

from seg_core.errors import NotReady, SegError
from seg_core.evaluate.criteria import higher_is_better
from seg_core.lifecycle.comparison import compared_from, mean_score, why_incomparable
from seg_core.lifecycle.promoted import note, promoted, promotions, read_history, standing
from seg_core.run import Run, load_run, removal_mark
from seg_core.store import Store
from seg_core.validation.best import read_best
from seg_core.validation.scoring import validation_sources
from seg_core.verdicts import Verdict, read_verdicts, write_verdicts

__all__ = ["compare", "promote", "promoted", "read_history", "roll_back", "standing"]

CHECK = "no_regression"
ROUNDING = 1e-9  # a tolerance of 0.1 allows 1.1 after 1.0


def compare(run: Run, tolerance: float) -> Verdict:
    """Score the best of a run and of the promoted one on the run's validation sources.

    Labels and raw data are taken as they are now. What was scored before is not again. The
    verdict is written to the run's `checks/`; it is for `promote` alone.

    Args:
        run: a validated run.
        tolerance: by how much its criterion may be worse, in the score's own unit.

    Raises:
        NotReady: the run was not validated.
        BlocksFailed: a block of a validation volume could not be made.
        Busy: another process scores the same.
    """
    read_best(run)
    name = promoted(run.store)
    verdict = _judge(run, load_run(run.store, name) if name else None, tolerance)
    write_verdicts(run.store, run.folder, [verdict])
    return verdict


def _judge(run: Run, other: Run | None, tolerance: float) -> Verdict:
    made_from = _made_from(run, other)
    if other is None:
        sentence = f"no run is promoted that run {run.name} could be worse than"
        return Verdict(CHECK, True, "error", sentence, {"tolerance": tolerance}, made_from)
    criterion = run.frozen.criterion
    figures: dict[str, Any] = {
        "criterion": criterion,
        "tolerance": tolerance,
        "promoted": other.name,
    }
    if why := why_incomparable(run, other):
        sentence = f"run {run.name} cannot be compared with the promoted run: {why}"
        return Verdict(CHECK, False, "error", sentence, figures, made_from)
    sources = validation_sources(run)
    ours, theirs = (mean_score(r, sources, criterion) for r in (run, other))
    figures |= {"score": ours, "promoted_score": theirs, "difference": ours - theirs}
    passed = is_as_good(criterion, ours, theirs, tolerance)
    sentence = (
        f"run {run.name} has {criterion} {ours:.4f} and the promoted run {other.name} "
        f"{theirs:.4f} on the same sources, which is {'not ' if passed else ''}worse"
        + (f" by more than {tolerance:g}" if tolerance else "")
    )
    return Verdict(CHECK, passed, "error", sentence, figures, made_from)


def is_as_good(criterion: str, ours: float, theirs: float, tolerance: float) -> bool:
    """Whether a score is not worse than another by more than a tolerance.

    No number is worse than any number, and as good as none.
    """
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(theirs)
    if ours == theirs:  # both may be infinite
        return True
    worse_by = theirs - ours if higher_is_better(criterion) else ours - theirs
    return worse_by <= tolerance + ROUNDING


def _made_from(run: Run, other: Run | None) -> str:
    runs = [run, other] if other else [run]
    return compared_from(runs, validation_sources(run), run.frozen.criterion)


def promote(run: Run, *, anyway: bool = False, why: str = "") -> None:
    """Promote a validated run; nothing happens where it is promoted.

    Args:
        run: the run.
        anyway: whatever the comparison with the promoted run says.
        why: kept in the history; the comparison's own sentence unless given.

    Raises:
        NotReady: the run was not validated; or its comparison is missing, is about other scores
            than those of now, or failed.
        SegError: it is being removed, or is gone.
        Busy: another process promotes, rolls back, or begins to remove a run.
    """
    with promotions(run.store):
        _refuse_gone(run.store, run.name)
        if promoted(run.store) == run.name:
            return
        found = "promoted whatever the comparison says" if anyway else _refuse_worse(run)
        note(run.store, run.name, why or found)


def _refuse_worse(run: Run) -> str:
    verdict = read_verdicts(run.store, run.folder).get(CHECK)
    name = promoted(run.store)
    now = _made_from(run, load_run(run.store, name) if name else None)
    if verdict is None or verdict.made_from != now:
        state = "was not compared" if verdict is None else "was compared by other scores"
        raise NotReady(
            f"run {run.name} {state} with {'the promoted run ' + name if name else 'any run'} "
            f"as they are now; compare and promote it with: seg promote {run.name}"
        )
    if not verdict.passed:
        raise NotReady(
            f"run {run.name} is not promoted: {verdict.sentence}; allow it with a larger "
            "--tolerance, or with --anyway"
        )
    return verdict.sentence


def roll_back(store: Store) -> str:
    """Promote again what was promoted before the promoted run.

    Returns:
        That run's name.

    Raises:
        SegError: there is none, or it is gone.
        Busy: another process promotes, rolls back, or begins to remove a run.
    """
    with promotions(store):
        runs = standing(store)
        if len(runs) < 2:
            now = f"before run {runs[0]}" if runs else "yet"
            raise SegError(f"no run was promoted {now}: there is nothing to roll back to")
        _refuse_gone(store, runs[-2])
        note(store, runs[-2], f"rolled back from {runs[-1]}", back=True)
        return runs[-2]


def _refuse_gone(store: Store, name: str) -> None:
    """Whoever calls holds the lease, so that what is there stays."""
    if store.exists(removal_mark(name)):  # before its file, which goes after the mark is set
        raise SegError(
            f"run {name} cannot be promoted, since it is being removed; end that with: "
            f"seg run remove {name}"
        )
    read_best(load_run(store, name))
