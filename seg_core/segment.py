"""A run on a volume, step by step: prediction, fragments, look-up table, segmentation."""

from dataclasses import dataclass

from seg_core.blockwise.engine import Options, Outcome
from seg_core.blockwise.stage import block_states
from seg_core.checks.scores import refuse_bad_scores
from seg_core.errors import NotReady
from seg_core.fragments import make_fragments
from seg_core.lut import Table, make_lut
from seg_core.parameters import chosen_parameters, own_parameters, set_parameters
from seg_core.predict import Predict, predict
from seg_core.run import Run
from seg_core.segmentation import make_segmentation
from seg_core.states import (
    Unfinished,
    begun,
    lut_state_of,
    output_of,
    stages_of,
    states_of,
    unfinished,
)
from seg_core.validation.best import read_best
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import describe_kept

__all__ = [
    "Segmented",
    "Unfinished",
    "begun",
    "chosen_parameters",
    "fragment_volume",
    "lut_of_volume",
    "lut_state_of",
    "output_of",
    "own_parameters",
    "predict_volume",
    "segment_blocks",
    "segment_volume",
    "set_parameters",
    "states_of",
    "unfinished",
]


def predict_volume(run: Run, volume: Volume, keys: list[str] | None, options: Options) -> Outcome:
    """Prediction blocks by the run's best checkpoint.

    Raises:
        NotReady: the run was not validated, or its scores failed a check.
        BlocksFailed: some blocks could not be made.
    """
    refuse_bad_scores(run)
    _describe_arrays(run, volume)
    return predict(run, output_of(run, volume), read_best(run).iteration, keys, options)


def fragment_volume(run: Run, volume: Volume, keys: list[str] | None, options: Options) -> Outcome:
    """Fragments of blocks, from their predictions.

    Raises:
        NotReady: the run was not validated, or its scores failed a check.
        BlocksFailed: some blocks could not be made.
    """
    refuse_bad_scores(run)
    _describe_arrays(run, volume)
    config = run.frozen
    return make_fragments(config.task, output_of(run, volume), config.compute.memory, keys, options)


def lut_of_volume(
    run: Run,
    volume: Volume,
    *,
    force: str = "",
    renumber: bool = False,
) -> tuple[Table, bool]:
    """The look-up table, by the best parameters unless others are set for this volume.

    Returns:
        The table, and whether this call made it.

    Raises:
        NotReady: predictions or fragments of some blocks are not up to date; they are named. Or
            the run's scores failed a check.
    """
    refuse_bad_scores(run)
    best, output = read_best(run), output_of(run, volume)
    _refuse_stale(Predict(output, run, best.iteration))
    chosen = chosen_parameters(run, volume)
    return make_lut(run.frozen.task, output, chosen, force=force, renumber=renumber)


def _describe_arrays(run: Run, volume: Volume) -> None:
    """Let what was made before say the volume's voxel size of now, whether or not it is due."""
    for stage in stages_of(run, volume):
        describe_kept(stage.array, labels=stage.labels)


def _refuse_stale(stage: Predict) -> None:
    """One table never joins blocks that other checkpoints, or raw data that is gone, were behind.

    Fragments know only what their prediction holds, not whether that is still right.
    """
    stale = {k: s.reason for k, s in block_states(stage).items() if s.state == "stale"}
    if stale:
        named = [f"{key} ({reason})" for key, reason in list(stale.items())[:20]]
        volume = stage.output.volume.name
        raise NotReady(
            f"{len(stale)} prediction block(s) of {stage.output.folder} are stale: "
            f"{'; '.join(named)}; make them again with: seg predict {stage.run.name} {volume}"
        )


def segment_blocks(run: Run, volume: Volume, keys: list[str] | None, options: Options) -> Outcome:
    """Segmentation blocks, from fragments and table.

    Raises:
        NotReady: the run was not validated, or its scores failed a check.
        BlocksFailed: some blocks could not be made.
    """
    refuse_bad_scores(run)
    _describe_arrays(run, volume)
    return make_segmentation(run.frozen.task, output_of(run, volume), keys, options)


@dataclass(frozen=True)
class Segmented:
    """What `segment_volume` did: each step's outcome."""

    fragments: Outcome
    table: Table
    table_made: bool
    segmentation: Outcome


def segment_volume(
    run: Run,
    volume: Volume,
    options: Options,
    *,
    renumber: bool = False,
) -> Segmented:
    """Fragments, table and segmentation of all blocks, whatever of it is not up to date.

    Raises:
        NotReady: there is no prediction of the volume.
        BlocksFailed: some blocks could not be made.
    """
    if not begun(run, volume):
        raise NotReady(
            f"run {run.name} has no prediction of volume {volume.name} yet; make it with: "
            f"seg predict {run.name} {volume.name}"
        )
    fragments = fragment_volume(run, volume, None, options)
    table, made = lut_of_volume(run, volume, force=options.force, renumber=renumber)
    return Segmented(fragments, table, made, segment_blocks(run, volume, None, options))
