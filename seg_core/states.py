"""What a run on a volume is now, step by step, and what is to be made to bring it up to date."""

from dataclasses import dataclass, field

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import BlockState, State
from seg_core.blockwise.stage import Stage, block_states, judge_blocks
from seg_core.fragments import Fragments
from seg_core.lut import lut_state
from seg_core.parameters import chosen_parameters
from seg_core.predict import Predict
from seg_core.report.state import report_state
from seg_core.run import Run
from seg_core.segmentation import Segmentation
from seg_core.validation.best import read_best
from seg_core.volumes.declared import Volume

UP_TO_DATE: tuple[State, ...] = ("done", "skipped")


def output_of(run: Run, volume: Volume) -> Output:
    """Where a run's results on a volume lie."""
    return Output(run.store, f"{run.folder}/{volume.name}", volume)


def stages_of(run: Run, volume: Volume) -> tuple[Predict, Fragments, Segmentation]:
    """The steps by block.

    Raises:
        NotReady: the run was not validated.
    """
    output, config = output_of(run, volume), run.frozen
    return (
        Predict(output, run, read_best(run).iteration),
        Fragments(output, config.task, config.compute.memory),
        Segmentation(output, config.task),
    )


def states_of(run: Run, volume: Volume) -> dict[str, dict[str, BlockState]]:
    """What every block of every step is now, by step and block key.

    Raises:
        NotReady: the run was not validated.
    """
    return {stage.name: block_states(stage) for stage in stages_of(run, volume)}


def lut_state_of(run: Run, volume: Volume) -> BlockState:
    """What the look-up table is now.

    Raises:
        NotReady: the run was not validated.
    """
    parameters = chosen_parameters(run, volume)
    return lut_state(run.frozen.task, output_of(run, volume), parameters)


def begun(run: Run, volume: Volume) -> bool:
    """Whether anything of the volume was predicted, or tried to be."""
    return bool(run.store.names(output_of(run, volume).path("blocks/prediction"), ".json"))


@dataclass(frozen=True)
class Unfinished:
    """What is to be made now, so that one pass over it, step by step, leaves all up to date.

    Attributes:
        blocks: keys by step: prediction, fragments, segmentation.
        whole: of the steps that are made for all blocks at once, lut and report, those due.
        given_up: of blocks that failed too often the reasons, by step and key. What waits for
            them is left out of the others too.
    """

    blocks: dict[str, list[str]]
    whole: list[str]
    given_up: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.blocks.values()) or bool(self.whole)


def unfinished(run: Run, volume: Volume, tries: int | None = None) -> Unfinished:
    """What is failed, missing or stale, with all that will be when these are made.

    A block that is predicted again gets new fragments, these a new table. Of which blocks the
    table then changes the segmentation is not known before, so all are in it; those it leaves
    as they are will be passed over.

    Args:
        run: a validated run.
        volume: a declared volume.
        tries: blocks that failed so often, from what they would be made from now, are given up.

    Raises:
        NotReady: the run was not validated.
    """
    prediction, fragments, segmentation = (_look(s, tries) for s in stages_of(run, volume))
    again = set(prediction.due)
    # what will be made from something else is given another chance
    no_fragments = {k: why for k, why in fragments.given_up.items() if k not in again}
    closed = {*prediction.given_up, *no_fragments}
    fragments_due = [
        k
        for k in volume.grid
        if (k in again or fragments.states[k].state not in UP_TO_DATE) and k not in closed
    ]
    lut = not closed and (fragments_due or lut_state_of(run, volume).state != "done")
    if lut:
        labels = [k for k, s in segmentation.states.items() if s.state != "skipped"]
        given_up = [prediction.given_up, no_fragments]
    else:
        waits = segmentation.waits | set(fragments_due) | again
        labels = [k for k in segmentation.due if k not in waits]
        given_up = [prediction.given_up, no_fragments, segmentation.given_up]
    complete = not any(given_up)
    # where nothing else is due, all is up to date: there is nothing to warn of
    report = complete and (lut or labels or _is_report_due(run, volume, segmentation.states))
    steps = ("prediction", "fragments", "segmentation")
    return Unfinished(
        dict(zip(steps, (prediction.due, fragments_due, labels), strict=True)),
        [step for step, due in (("lut", lut), ("report", report)) if due],
        {step: reasons for step, reasons in zip(steps, given_up, strict=False) if reasons},
    )


def _is_report_due(run: Run, volume: Volume, blocks: dict[str, BlockState]) -> bool:
    return report_state(run, output_of(run, volume), blocks, []).state != "done"


@dataclass(frozen=True)
class _Look:
    """A step's blocks: their states, those to make, those given up, and those that wait."""

    states: dict[str, BlockState]
    due: list[str]
    given_up: dict[str, str]
    waits: set[str]


def _look(stage: Stage, tries: int | None) -> _Look:
    inputs = stage.inputs()
    states = judge_blocks(stage, inputs, None)
    given_up = {
        key: state.reason
        for key, state in states.items()
        if tries is not None
        and state.state == "failed"
        and state.record.tries >= tries
        and state.record.inputs == inputs[key]
    }
    due = [k for k, s in states.items() if s.state not in UP_TO_DATE and k not in given_up]
    return _Look(states, due, given_up, {k for k, i in inputs.items() if isinstance(i, str)})
