"""3. Validate: score checkpoints over the sweep of post-processing, and choose the best.

Every checkpoint goes the way that predictions of whole volumes go, block by block: parameters
chosen on a small crop mislead, since merges grow with the volume.
"""

import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.datasplit import Source, open_source
from seg_core.errors import NotReady, SegError
from seg_core.evaluate import higher_is_better
from seg_core.fingerprint import fingerprint
from seg_core.fragments import Fragments, make_fragments
from seg_core.kernels.relabel import relabel
from seg_core.lease import Lease
from seg_core.lut import VERSION, ready_fragments, solve
from seg_core.merging.volume_graph import BlockFragments
from seg_core.postprocess.postprocess import Parameters
from seg_core.predict import Predict, predict
from seg_core.run import Run
from seg_core.training.checkpoint import iterations, load_network
from seg_core.volumes.ome_zarr import chunk_stamps, open_array, region_stamp

BEST = "best.json"


@dataclass(frozen=True)
class Best:
    """What `best.json` says: nothing downstream takes another checkpoint or other parameters.

    Attributes:
        iteration: the chosen checkpoint.
        parameters: the chosen parameters of the agglomeration.
        criterion: by what they were chosen.
        score: its value, the mean over the validation sources.
        scores: all other scores of the same choice, means too.
    """

    iteration: int
    parameters: Parameters
    criterion: str
    score: float
    scores: dict[str, float]


def validate(run: Run) -> tuple[Best, int]:
    """Score the last checkpoints of a run, and choose; what was scored before is not again.

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
    opened = [open_source(run, c) for c in config.datasplit.validate_]
    sources = list({source.name: source for source in opened}.values())
    for source in sources:
        if not source.volume.roi.contains(source.roi):
            raise SegError(f"{source.name} lies outside the volume's ROI, {source.volume.roi}")
    todo = [(i, s) for i in found[-config.validation.last :] for s in sources]
    with Lease(run.store, f"{run.folder}/validate.lock", f"validation of run {run.name}"):
        return _validate(run, todo)


def _validate(run: Run, todo: list[tuple[int, Source]]) -> tuple[Best, int]:
    before, rows, made = _read(run), [], 0
    for iteration, source in tqdm(todo, desc=f"validate {run.name}", unit="source"):
        made_from = _made_from(run, iteration, source)
        known = before[before.made_from == made_from]
        if known.empty:
            known = _score(run, iteration, source).assign(made_from=made_from)
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
    run.store.remove(f"{run.folder}/validation")
    return best, made


def read_scores(run: Run) -> pd.DataFrame:
    """One row per iteration, dataset, parameters and criterion, with its score."""
    raw = run.store.read_bytes(f"{run.folder}/scores.parquet")
    return pd.read_parquet(io.BytesIO(raw))


def read_best(run: Run) -> Best:
    """The choice.

    Raises:
        NotReady: the run was not validated.
    """
    found = run.store.read_json(f"{run.folder}/{BEST}")
    if found is None:
        raise NotReady(f"run {run.name} has no best checkpoint yet: seg validate {run.name}")
    # JSON has no nan
    scores = {name: math.nan if s is None else s for name, s in found.pop("scores").items()}
    return Best(**found, scores=scores)


def choose(scores: pd.DataFrame, criterion: str) -> Best:
    """The iteration and parameters with the best mean of the criterion over all datasets.

    A mean is nan if the score of one dataset is: what has no score there must not win by the
    others. Of equal ones the earliest iteration is chosen.

    Raises:
        SegError: no choice has a finite score.
    """
    groups = scores.groupby(["iteration", "parameters", "criterion"]).score
    means = groups.agg(lambda values: values.to_numpy().mean()).unstack("criterion")
    if criterion not in means:
        raise SegError(f"this task has no score {criterion!r}; it has {', '.join(map(str, means))}")
    column = means[criterion].to_numpy() * (1 if higher_is_better(criterion) else -1)
    if not np.isfinite(column).any():
        raise SegError(f"no checkpoint has a finite {criterion}; the network has learnt nothing")
    row = int(np.argmax(np.where(np.isfinite(column), column, -np.inf)))
    iteration, parameters = means.index[row]
    others = {str(name): float(means[name].iloc[row]) for name in means}
    return Best(int(iteration), json.loads(parameters), criterion, others[criterion], others)


def _read(run: Run) -> pd.DataFrame:
    if run.store.exists(f"{run.folder}/scores.parquet"):
        return read_scores(run)
    return pd.DataFrame(columns=["made_from"])


def _output(run: Run, iteration: int, source: Source) -> Output:
    name = source.volume.name
    return Output(run.store, f"{run.folder}/validation/{iteration}/{name}", source.volume)


def _made_from(run: Run, iteration: int, source: Source) -> str:
    config, raw, labels = run.frozen, source.volume.raw, source.labels
    return fingerprint(
        load_network(run, iteration)[2],
        config.task.model_dump(mode="json"),
        config.prediction.model_dump(),
        source.name,
        str(source.volume.grid),
        region_stamp(raw, chunk_stamps(raw), source.volume.roi),
        region_stamp(labels, chunk_stamps(labels), source.roi),
        [Predict.version, Fragments.version, VERSION],
    )


def _score(run: Run, iteration: int, source: Source) -> pd.DataFrame:
    config, output = run.frozen, _output(run, iteration, source)
    options = Options(workers=config.compute.workers)
    predict(run, output, iteration, None, options)
    make_fragments(config.task, output, config.compute.memory, None, options)
    blocks = ready_fragments(config.task, output)
    sweep = config.task.postprocess.choices()
    fragments = _read_fragments(output, blocks, source) if config.task.postprocess.joins else None
    labels = source.labels.read(source.roi)
    rows: list[dict[str, Any]] = []
    solved = solve(config.task, output, blocks, sweep)
    for parameters, clusters in tqdm(
        list(zip(sweep, solved, strict=True)), desc="parameters", leave=False
    ):
        if fragments is None:
            array = open_array(output.store.path(output.path("fragments.zarr")))
            segmentation = array.read(source.roi).astype(np.uint64)
        else:
            segmentation = relabel(fragments, np.concatenate([np.zeros(1, np.uint64), clusters]))
        scores = config.task.scores(segmentation, labels, source.volume.voxel_size)
        chosen = json.dumps(parameters, sort_keys=True)
        rows += [
            {
                "iteration": iteration,
                "dataset": source.name,
                "parameters": chosen,
                "criterion": criterion,
                "score": score,
            }
            for criterion, score in scores.items()
        ]
    return pd.DataFrame(rows)


def _read_fragments(output: Output, blocks: BlockFragments, source: Source) -> NDArray[np.uint64]:
    """Fragments of the source's ROI, numbered over all blocks."""
    array = open_array(output.store.path(output.path("fragments.zarr")))
    whole, start = np.zeros(source.roi.shape, np.uint64), 0
    for key, (count, _) in blocks.items():
        part = output.grid.box(key).clip(source.roi)
        if part.voxels:
            labels = array.read(part).astype(np.uint64)
            labels[labels > 0] += np.uint64(start)
            whole[part.relative_to(source.roi.begin).slices] = labels
        start += count
    return whole
