"""A run on a volume, step by step: prediction, fragments, look-up table, segmentation."""

from dataclasses import dataclass

from seg_core.blockwise.engine import Options, Outcome
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import BlockState, Records
from seg_core.blockwise.stage import Stage, block_states
from seg_core.errors import NotReady
from seg_core.fragments import Fragments, make_fragments
from seg_core.lut import Table, lut_state, make_lut, read_table
from seg_core.postprocess.postprocess import Parameters
from seg_core.predict import Predict, predict
from seg_core.run import Run
from seg_core.segmentation import Segmentation, make_segmentation
from seg_core.validate import read_best
from seg_core.volumes.declared import Volume


def output_of(run: Run, volume: Volume) -> Output:
    """Where a run's results on a volume lie."""
    return Output(run.store, f"{run.folder}/{volume.name}", volume)


def predict_volume(run: Run, volume: Volume, keys: list[str] | None, options: Options) -> Outcome:
    """Prediction blocks by the run's best checkpoint.

    Raises:
        NotReady: the run was not validated.
        BlocksFailed: some blocks could not be made.
    """
    return predict(run, output_of(run, volume), read_best(run).iteration, keys, options)


def fragment_volume(run: Run, volume: Volume, keys: list[str] | None, options: Options) -> Outcome:
    """Fragments of blocks, from their predictions.

    Raises:
        BlocksFailed: some blocks could not be made.
    """
    config = run.frozen
    return make_fragments(config.task, output_of(run, volume), config.compute.memory, keys, options)


def lut_of_volume(
    run: Run,
    volume: Volume,
    parameters: Parameters | None = None,
    *,
    force: str = "",
    renumber: bool = False,
) -> tuple[Table, bool]:
    """The look-up table, by the best parameters unless others are given.

    Returns:
        The table, and whether this call made it.

    Raises:
        NotReady: predictions or fragments of some blocks are not up to date; they are named.
    """
    best, output = read_best(run), output_of(run, volume)
    _refuse_stale(Predict(output, run, best.iteration))
    chosen = best.parameters | (parameters or {})
    return make_lut(run.frozen.task, output, chosen, force=force, renumber=renumber)


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
        BlocksFailed: some blocks could not be made.
    """
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
    parameters: Parameters | None = None,
    *,
    renumber: bool = False,
) -> Segmented:
    """Fragments, table and segmentation of all blocks, whatever of it is not up to date.

    Raises:
        NotReady: there is no prediction of the volume.
        BlocksFailed: some blocks could not be made.
    """
    predictions = Records(run.store, output_of(run, volume).path("blocks/prediction"))
    if not predictions.read_all():
        raise NotReady(
            f"run {run.name} has no prediction of volume {volume.name} yet; make it with: "
            f"seg predict {run.name} {volume.name}"
        )
    fragments = fragment_volume(run, volume, None, options)
    table, made = lut_of_volume(run, volume, parameters, force=options.force, renumber=renumber)
    return Segmented(fragments, table, made, segment_blocks(run, volume, None, options))


def states_of(run: Run, volume: Volume) -> dict[str, dict[str, BlockState]]:
    """What every block of every step is now, by step and block key."""
    output, task, best = output_of(run, volume), run.frozen.task, read_best(run)
    stages: list[Stage] = [
        Predict(output, run, best.iteration),
        Fragments(output, task, run.frozen.compute.memory),
        Segmentation(output, task),
    ]
    return {stage.name: block_states(stage) for stage in stages}


def lut_state_of(run: Run, volume: Volume) -> BlockState:
    """What the look-up table is now, by the parameters that it was made with."""
    output = output_of(run, volume)
    table = read_table(output)
    parameters = table.parameters if table else read_best(run).parameters
    return lut_state(run.frozen.task, output, parameters)
