"""What a run's own steps are now: datasplit, checkpoint, scores. Contents decide, not dates."""

from typing import Any

from seg_core.blockwise.records import BlockState, Record, State
from seg_core.datasplit import FILE as DATASPLIT
from seg_core.datasplit import contents_of, indexed_content
from seg_core.errors import SegError
from seg_core.run import Run
from seg_core.source import Source, open_sources
from seg_core.training.checkpoint import iterations
from seg_core.validation.best import BEST, read_best, read_scores
from seg_core.validation.scoring import scored_from, validation_sources
from seg_core.verdicts import read_verdicts
from seg_core.volumes.contents import Index


def run_states(run: Run) -> dict[str, BlockState]:
    """The states of `datasplit`, `checkpoint` and `validation_scores`, each with its reason.

    What was only touched is as it was. What hangs from something stale is stale too; the blocks
    of volumes are not: they are made from a checkpoint, whatever has become of its datasplit.
    """
    datasplit = _datasplit(run)
    checkpoint = _checkpoint(run, datasplit)
    scores = _scores(run, checkpoint)
    return {"datasplit": datasplit, "checkpoint": checkpoint, "validation_scores": scores}


def _state(state: State, reason: str = "") -> BlockState:
    return BlockState(state, reason, Record(state))


def _datasplit(run: Run) -> BlockState:
    split = run.store.read_json(f"{run.folder}/{DATASPLIT}")
    if split is None:
        blocked = [v for v in read_verdicts(run.store, run.folder).values() if v.blocks]
        said = "; ".join(f"{v.check}: {v.sentence}" for v in blocked)
        return _state("failed", said) if blocked else _state("missing")
    try:
        _ = run.frozen
        changed = _changed(run, split)
    except SegError as error:  # the file was edited, a volume is gone or cannot be read
        return _state("stale", str(error))
    if changed:
        return _state("stale", f"{', '.join(changed)} changed since (train under a new run name)")
    return _state("done")


def _changed(run: Run, split: dict[str, Any]) -> list[str]:
    index, found = contents_of(run), []
    for part, sources in open_sources(run).items():
        for before, source in zip(split[part], sources, strict=True):
            found += [
                f"{name} of volume {source.volume.name}"
                for (key, name), now in _described(index, source).items()
                if before[key] != now
            ]
    index.save()
    return list(dict.fromkeys(found))


def _described(index: Index, source: Source) -> dict[tuple[str, str], Any]:
    """What may change of a source, by its key in the datasplit and by its name."""
    return {
        ("roi", "ROI"): str(source.roi),
        ("voxel_size", "voxel size"): list(source.volume.voxel_size),
        ("raw", "raw data"): indexed_content(index, source, source.volume.raw),
        ("labels", "labels"): indexed_content(index, source, source.labels),
    }


def _checkpoint(run: Run, datasplit: BlockState) -> BlockState:
    total, found = run.config.trainer.iterations, iterations(run)
    if total not in found:
        at = f"at iteration {found[-1]} of {total}" if found else ""
        return _state("missing", at)
    if datasplit.state != "done":
        return _state("stale", f"its datasplit is {_said(datasplit)}")
    return _state("done")


def _scores(run: Run, checkpoint: BlockState) -> BlockState:
    if not run.store.exists(f"{run.folder}/{BEST}"):
        return _state("missing")
    if checkpoint.state != "done":
        return _state("stale", f"its checkpoint is {_said(checkpoint)}")
    try:
        known, best = set(read_scores(run).made_from), read_best(run).iteration
        sources = [s for s in validation_sources(run) if scored_from(run, best, s) not in known]
    except SegError as error:
        return _state("stale", str(error))
    if sources:
        names = ", ".join(source.name for source in sources)
        return _state(
            "stale", f"data, voxel size, mask or blocks of {names} changed since: validate again"
        )
    return _state("done")


def _said(state: BlockState) -> str:
    return f"{state.state}: {state.reason}" if state.reason else state.state
