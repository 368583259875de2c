"""Scores of one checkpoint on one source, for any parameters of its post-processing.

The checkpoint goes the way that predictions of whole volumes go, block by block: parameters chosen
on a small crop mislead, since merges grow with the volume.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.datasplit import contents_of
from seg_core.errors import SegError
from seg_core.fingerprint import fingerprint
from seg_core.fragments import Fragments, make_fragments
from seg_core.kernels.relabel import relabel
from seg_core.lut import VERSION, ready_fragments, solve
from seg_core.merging.volume_graph import BlockFragments
from seg_core.postprocess.postprocess import Parameters
from seg_core.predict import Predict, predict
from seg_core.run import Run
from seg_core.source import Source, open_source
from seg_core.training.checkpoint import load_network
from seg_core.volumes.contents import indexed
from seg_core.volumes.ome_zarr import open_array


def validation_sources(run: Run) -> list[Source]:
    """What a run is validated on, each source once.

    Raises:
        SegError: a source lies outside its volume's ROI.
    """
    opened = [open_source(run, c) for c in run.frozen.datasplit.validate_]
    for source in opened:
        if not source.volume.roi.contains(source.roi):
            raise SegError(f"{source.name} lies outside the volume's ROI, {source.volume.roi}")
    return list({source.name: source for source in opened}.values())


def scored_from(run: Run, iteration: int, source: Source) -> str:
    """A fingerprint of everything that decides the scores of a checkpoint on a source."""
    config, raw, labels = run.frozen, source.volume.raw, source.labels
    mask = source.volume.mask
    masked = mask.describe({"all": source.volume.roi})["all"] if mask else ""
    index = contents_of(run)
    data = [indexed(index, raw, source.volume.roi), indexed(index, labels, source.roi)]
    index.save()
    return fingerprint(
        load_network(run, iteration)[2],
        config.task.model_dump(mode="json"),
        config.prediction.model_dump(),
        source.name,
        str(source.volume.grid),
        source.volume.voxel_size,
        data,
        [Predict.version, Fragments.version, VERSION],
        *([masked] if masked else []),
    )


def score(
    run: Run, iteration: int, source: Source, sweep: list[Parameters], folder: str
) -> pd.DataFrame:
    """All scores of a checkpoint on a source, one row for each parameters and criterion.

    Args:
        run: whose checkpoint, task and prediction settings are taken.
        iteration: the checkpoint.
        source: what is scored on, a part of any volume.
        sweep: parameters of the agglomeration.
        folder: of the store, for what is made on the way; what is up to date there is taken.

    Raises:
        BlocksFailed: a block of the source's volume could not be made.
    """
    config, volume = run.frozen, source.volume
    output = Output(run.store, f"{folder}/{iteration}/{volume.name}", volume)
    options = Options(workers=config.compute.workers)
    predict(run, output, iteration, None, options)
    make_fragments(config.task, output, config.compute.memory, None, options)
    blocks = ready_fragments(config.task, output)
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
        row = {"iteration": iteration, "dataset": source.name, "parameters": to_text(parameters)}
        rows += [{**row, "criterion": name, "score": value} for name, value in scores.items()]
    return pd.DataFrame(rows)


def to_text(parameters: Parameters) -> str:
    """Parameters as the column of that name holds them."""
    return json.dumps(parameters, sort_keys=True)


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
