"""The engine of all steps by block: passes over what is done, makes the rest, records each.

A block is cut into sub-blocks. Both are recorded as they end, so whoever comes next goes on where
this process stopped. Blocks are spread over worker processes by daisy; where there are fewer
blocks than workers, their sub-blocks are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from seg_core.blockwise.distribute import distribute
from seg_core.blockwise.make_block import empty_block, make_block
from seg_core.blockwise.records import BlockState, Record
from seg_core.blockwise.stage import Stage, Work, judge_blocks
from seg_core.errors import BlocksFailed, Busy, SegError


@dataclass(frozen=True)
class Outcome:
    """What a call did: keys of blocks made, and of blocks that were done already."""

    made: list[str]
    passed: list[str]


@dataclass(frozen=True)
class Options:
    """How blocks are run.

    Attributes:
        workers: processes.
        force: a token; blocks that are done are made again, once for each token. Whoever asks
            again with the same one (a retry) finds done what was made under it. "" forces nothing.
        on_block: called in the main process with the key and record of each block as it ends.
    """

    workers: int = 1
    force: str = ""
    on_block: Callable[[str, Record], None] | None = None


def run_blocks(stage: Stage, keys: Sequence[str] | None, options: Options) -> Outcome:
    """Bring blocks up to date: those that are done are passed over.

    Args:
        stage: the step.
        keys: block keys; all unless given.
        options: how.

    Returns:
        What was made and what was passed over.

    Raises:
        BlocksFailed: some failed, each with its reason; all others are made and recorded.
        SegError: the step cannot run at all; nothing was made.
    """
    wanted = list(dict.fromkeys(stage.output.grid if keys is None else keys))
    for key in wanted:
        stage.output.grid.index(key)
    inputs = stage.inputs(wanted)
    states = judge_blocks(stage, inputs, wanted)
    todo = [k for k in wanted if _is_due(states[k], options.force)]
    due = set(todo)
    passed = [k for k in wanted if k not in due]
    if not todo:
        return Outcome([], passed)
    _prepare(stage, todo, passed)
    failed = {key: waits for key in todo if isinstance(waits := inputs[key], str)}
    work = [
        Work(key, made_from, options.force or states[key].record.forced)
        for key in todo
        if isinstance(made_from := inputs[key], dict)
    ]
    for key in todo:
        if inputs[key] is None:
            empty_block(stage, key)
            if options.on_block:
                options.on_block(key, Record("skipped"))
    busy: dict[str, str] = {}
    failed |= _compute(stage, work, options, busy)
    if failed or busy:
        raise BlocksFailed(stage.name, failed | busy, busy)
    return Outcome(todo, passed)


def _prepare(stage: Stage, todo: list[str], passed: list[str]) -> None:
    """What the step cannot run for is no fault of the blocks that are done already."""
    try:
        stage.prepare()
    except SegError as error:
        if not passed:
            raise
        raise BlocksFailed(stage.name, dict.fromkeys(todo, str(error))) from None


def _is_due(state: BlockState, force: str) -> bool:
    if state.state == "done":
        return force not in ("", state.record.forced)
    return state.state != "skipped"


def _compute(
    stage: Stage, work: list[Work], options: Options, busy: dict[str, str]
) -> dict[str, str]:
    """Make blocks; returns the reason of each that failed, and notes those others are making."""
    failed: dict[str, str] = {}
    bar = tqdm(total=len(work), desc=f"{stage.name} {stage.output.volume.name}", unit="block")
    with bar:

        def ended(key: str) -> None:
            bar.update()
            record = stage.records.read(key)
            if record.state == "failed":
                failed[key] = record.error
            if options.on_block:
                options.on_block(key, record)

        if options.workers == 1 or not work:
            left = _one_by_one(stage, work, ended)
        else:
            left = distribute(stage, work, options.workers, ended)
        # of two at once, who ends last finds that the other has made what it was at
        busy |= _one_by_one(stage, [item for item in work if item.key in left], ended)
    return failed


def _one_by_one(stage: Stage, work: list[Work], ended: Callable[[str], None]) -> dict[str, str]:
    """Make blocks in this process; returns why it did not those that others are making."""
    busy: dict[str, str] = {}
    for item in work:
        try:
            make_block(stage, item)
        except Busy as error:
            busy[item.key] = str(error)
        else:
            ended(item.key)
    return busy
