"""All checks that can be made of a run by now; their verdicts are kept in the store."""

from seg_core.best import BEST
from seg_core.checks.datasplit import check_datasplit
from seg_core.checks.scores import check_scores
from seg_core.run import Run
from seg_core.verdicts import Verdict, write_verdicts


def check_run(run: Run) -> list[Verdict]:
    """Verdicts on a run's datasplit, and on its scores if it was validated.

    Raises:
        SegError: a source of its datasplit cannot be opened.
    """
    verdicts = check_datasplit(run)
    if run.store.exists(f"{run.folder}/{BEST}"):
        verdicts += check_scores(run)
    write_verdicts(run.store, run.folder, verdicts)
    return verdicts
