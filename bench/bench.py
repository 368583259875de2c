"""Every hot path against its bare limit and against what one would use otherwise, in one run.

Machines differ and are shared, so what counts is the ratio of two figures of the same run. Each
pair is timed in turn, A B A B ..., and the median of the ratios is printed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import zarr
from object_store import object_store
from skimage.metrics import adapted_rand_error, variation_of_information

from seg_core.blockwise.engine import Options, run_blocks
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record
from seg_core.evaluate.contingency import Contingency
from seg_core.evaluate.instance import instance_scores
from seg_core.geometry import Box
from seg_core.kernels.agglomeration import agglomerate
from seg_core.kernels.region_graph import edges_inside
from seg_core.kernels.relabel import relabel
from seg_core.lut import Table
from seg_core.merging.names import Range
from seg_core.phantom import make_phantom
from seg_core.predict import Predict, predict
from seg_core.run import Run, RunConfig, add_run, load_run
from seg_core.states import output_of, stages_of
from seg_core.store import Store
from seg_core.tasks.affinities import ISOTROPIC
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create


@dataclass(frozen=True)
class Row:
    """A figure of ours and what it is held against."""

    what: str
    ours: Callable[[], Any]
    other: str
    theirs: Callable[[], Any]


def ratio(row: Row, rounds: int) -> tuple[float, float, float]:
    """Seconds of ours, seconds of the other, and the median of ours / other pair by pair."""
    row.ours(), row.theirs()  # compiled, cached, warm
    pairs = [(_seconds(row.ours), _seconds(row.theirs)) for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(a / b for a, b in pairs)


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def kernels(side: int) -> Iterator[Row]:
    """The loops over voxels and edges."""
    _, labels32 = make_phantom((side, side, side), seed=1)
    labels = labels32.astype(np.uint64)
    rng = np.random.default_rng(0)
    affinities = rng.integers(0, 256, (len(ISOTROPIC), *labels.shape), dtype=np.uint8)
    table = np.arange(int(labels.max()) + 1, dtype=np.uint64)[::-1].copy()
    other = np.where(labels % 7 == 0, labels + 1, labels)
    yield Row("relabel uint64", lambda: relabel(labels, table), "memory copy", labels.copy)
    yield Row("relabel uint64", lambda: relabel(labels, table), "numpy take", lambda: table[labels])
    yield Row(
        "region graph, 6 offsets",
        lambda: edges_inside(labels, affinities, ISOTROPIC),
        "numpy, 3 offsets",
        lambda: _numpy_edges(labels, affinities),
    )
    edges = edges_inside(labels, affinities, ISOTROPIC)
    sizes = np.bincount(labels.ravel().astype(np.int64))
    yield Row(
        f"agglomeration of {len(edges)} edges",
        lambda: agglomerate(len(sizes) - 1, sizes, edges, 0.4),
        "sorting them",
        lambda: np.sort(edges.attract_sum / np.maximum(1, edges.attract_count)),
    )
    yield Row(
        "VOI and adapted Rand",
        lambda: _scores(other, labels),
        "scikit-image",
        lambda: (variation_of_information(labels, other), adapted_rand_error(labels, other)),
    )


def _scores(segmentation: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    table = Contingency()
    table.add(segmentation, labels)
    return instance_scores(table)


def _numpy_edges(labels: np.ndarray, affinities: np.ndarray) -> list[Any]:
    found = []
    for axis in range(3):
        a = np.moveaxis(labels, axis, 0)[:-1]
        b = np.moveaxis(labels, axis, 0)[1:]
        differs = a != b
        pairs = np.stack([np.minimum(a, b)[differs], np.maximum(a, b)[differs]])
        weights = np.moveaxis(affinities[axis], axis, 0)[:-1][differs]
        _, number = np.unique(pairs, axis=1, return_inverse=True)
        found.append(np.bincount(number.ravel(), weights))
    return found


def volumes(folder: Path, side: int) -> Iterator[Row]:
    """Reading and writing."""
    raw, _ = make_phantom((side, side, side), seed=1)
    uri = str(folder / "array.zarr")
    array = create(ZarrArray(uri, Box.of_shape(raw.shape), None, "uint8", (8, 8, 8), (64, 64, 64)))
    array.write(array.box, raw)
    plain = zarr.open_array(f"{uri}/0")
    np.save(folder / "raw.npy", raw)
    halo = Box.of_shape((side // 2,) * 3, (side // 4,) * 3)
    yield Row("read", lambda: array.read(halo), "zarr-python", lambda: plain[halo.slices])
    yield Row("read all", array.read, "numpy file", lambda: np.load(folder / "raw.npy"))
    yield Row(
        "write",
        lambda: array.write(array.box, raw),
        "zarr-python",
        lambda: plain.__setitem__(..., raw),
    )


def on_gs(side: int) -> Iterator[Row]:
    """Reading and writing on an object store."""
    for line in object_store(side):
        yield Row(*line)


RUN = """
datasplit:
  train: [{volume: v, roi: '0:64, :, :'}]
  validate: [{volume: v, roi: '64:96, :, :'}]
trainer: {iterations: 4, crop: [64, 64, 64]}
compute: {device: cpu, threads: 2}
"""


def prepared(folder: Path) -> tuple[Run, Volume]:
    """A trained and validated run on a small phantom."""
    store = Store(str(folder / "store"))
    raw, labels = make_phantom((96, 128, 128), seed=1)
    for name, data in (("raw", raw), ("labels", labels)):
        uri, box = store.path(f"volumes/v/{name}.zarr"), Box.of_shape(data.shape)
        create(ZarrArray(uri, box, None, data.dtype.name, (8, 8, 8), (32, 32, 32))).write(box, data)
    text = b"raw: raw.zarr\nlabels: labels.zarr\nblock: [96, 128, 128]\nchunk: [32, 32, 32]\n"
    volume = add_volume(store, "v", text, "v.yaml")
    run = add_run(store, "r", RUN.encode(), "r.yaml")
    train(run)
    validate(run)
    return run, volume


def steps(folder: Path) -> Iterator[Row]:
    """Training and prediction against the bare network."""
    run, volume = prepared(folder)
    output = Output(run.store, "bench", volume)
    stage = Predict(output, run, run.config.trainer.iterations)
    shape = stage.context(volume.roi).shape
    network = run.config.architecture.build(1, 6).eval().to(memory_format=torch.channels_last_3d)
    image = torch.zeros(1, 1, *shape).to(memory_format=torch.channels_last_3d)

    def bare() -> None:
        with torch.inference_mode():
            network(image)

    yield Row(
        "predict a block",
        lambda: predict(run, output, stage.iteration, None, Options(force=uuid4().hex)),
        "bare network",
        bare,
    )
    config = run.frozen
    yield Row(
        "train 4 iterations", lambda: _train(run, folder), "bare steps", lambda: _steps(config)
    )


def _train(run: Run, folder: Path) -> None:
    name = f"again{time.monotonic_ns()}"
    train(add_run(run.store, name, RUN.encode(), str(folder)))


def _steps(config: RunConfig) -> None:
    network = config.architecture.build(1, 6).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.zeros(1, 1, 64, 64, 64).to(memory_format=torch.channels_last_3d)
    for _ in range(config.trainer.iterations):
        network(image).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def passing_over(run: Run, blocks: int) -> Iterator[str]:
    """What a block costs in each step that is done already."""
    shape = (8 * (blocks // 100), 80, 80)
    raw = np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)
    uri, box = run.store.path("volumes/m/raw.zarr"), Box.of_shape(shape)
    create(ZarrArray(uri, box, None, "uint8", (8, 8, 8), (8, 8, 8))).write(box, raw)
    text = b"raw: raw.zarr\nblock: [8, 8, 8]\nchunk: [8, 8, 8]\n"
    volume = add_volume(run.store, "m", text, "m.yaml")
    ranges = {key: Range(number, 1, "c") for number, key in enumerate(volume.grid)}
    table = Table("", ranges, dict.fromkeys(volume.grid, "s"), blocks, {}, {})
    run.store.write_json(output_of(run, volume).path("lut/table.json"), asdict(table))
    for stage in stages_of(run, volume):
        for key, made_from in stage.inputs().items():
            assert isinstance(made_from, dict)
            stage.records.write(key, Record("done", made_from, "c", {"seconds": 1.0}))
    for stage in stages_of(run, volume):
        seconds = _seconds(partial(run_blocks, stage, None, Options()))
        each = seconds / blocks * 1e6
        yield f"passing over {blocks} done blocks, {stage.name}: {each:.0f} microseconds a block"


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller arrays, fewer rounds")
    quick = parser.parse_args().quick
    side, rounds, blocks = (96, 3, 1000) if quick else (192, 5, 10_000)
    torch.set_num_threads(2)
    print(f"{'ours':32} {'seconds':>9}   {'against':18} {'seconds':>9}   ours / other")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in (kernels(side), volumes(folder, side), on_gs(side), steps(folder)):
            for row in rows:
                ours, theirs, times = ratio(row, rounds)
                print(f"{row.what:32} {ours:9.4f}   {row.other:18} {theirs:9.4f}   {times:8.2f}")
        for line in passing_over(load_run(Store(str(folder / "store")), "r"), blocks):
            print(line)


if __name__ == "__main__":
    main()
