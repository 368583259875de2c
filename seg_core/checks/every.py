"""All checks that can be made of a run by now; their verdicts are kept in the store."""

from seg_core.checks.datasplit import check_datasplit
from seg_core.checks.prediction import check_prediction
from seg_core.checks.scores import check_scores
from seg_core.checks.segmentation import check_segmentation
from seg_core.checks.unchanged import check_unchanged
from seg_core.lut import read_table
from seg_core.run import Run
from seg_core.states import begun, output_of
from seg_core.validation.best import BEST
from seg_core.verdicts import Verdict, write_verdicts
from seg_core.volumes.declared import Volume


def check_run(run: Run) -> list[Verdict]:
    """Verdicts on a run's datasplit, and on its scores if it was validated.

    Raises:
        SegError: a source of its datasplit cannot be opened.
    """
    verdicts = [*check_datasplit(run), check_unchanged(run)]
    if run.store.exists(f"{run.folder}/{BEST}"):
        verdicts += check_scores(run)
    write_verdicts(run.store, run.folder, verdicts)
    return verdicts


def check_volume(run: Run, volume: Volume) -> list[Verdict]:
    """Verdicts on what a run made of a volume, as far as it came.

    Raises:
        NotReady: the run was not validated.
    """
    verdicts = check_prediction(run, volume) if begun(run, volume) else []
    if read_table(output_of(run, volume)) is not None:
        verdicts += check_segmentation(run, volume)
    return verdicts
