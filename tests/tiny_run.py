"""The smallest run on the smallest volume of 20 blocks, whole in a store, in a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_core.blockwise.engine import Options
from seg_core.geometry import Box, triple
from seg_core.phantom import make_phantom
from seg_core.run import Run, add_run, load_run
from seg_core.segment import (
    Unfinished,
    fragment_volume,
    lut_of_volume,
    predict_volume,
    segment_blocks,
    segment_volume,
)
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import Volume, add_volume, load_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

BLOCK, RAW_CHUNK = 24, 8
VOLUME = f"raw: raw.zarr\nlabels: labels.zarr\nblock: {[BLOCK] * 3}\nchunk: {[BLOCK // 2] * 3}\n"
RUN = """
datasplit:
  train: [{volume: phantom, roi: '0:60, :, :'}]
  validate: [{volume: phantom, roi: '60:120, :, :'}]
architecture:  # a reach of 4 voxels, so that the chunk in a block's middle is read by it alone
  kind: unet
  features: [4, 6, 8]
  kernels: [[3, 3, 3], [1, 1, 1], [1, 1, 1]]
  strides: [[2, 2, 2], [1, 1, 1]]
trainer: {iterations: 12, crop: [16, 16, 16], warm_up: 2}
compute: {device: cpu, threads: 1}
"""


def make_volume(store: Store, name: str = "phantom", raw_chunk: int = RAW_CHUNK) -> Volume:
    """A phantom of 5 x 2 x 2 blocks."""
    raw, labels = make_phantom((5 * BLOCK, 2 * BLOCK, 2 * BLOCK), seed=1)
    for array, data in (("raw", raw), ("labels", labels)):
        uri, box = store.path(f"volumes/{name}/{array}.zarr"), Box.of_shape(data.shape)
        chunk = triple([raw_chunk] * 3)
        create(ZarrArray(uri, box, None, data.dtype.name, (10, 10, 10), chunk)).write(box, data)
    return add_volume(store, name, VOLUME.encode(), "phantom.yaml")


def make_run(store: Store, name: str = "tiny") -> Run:
    return add_run(store, name, RUN.encode(), "tiny.yaml")


def make_results(run: Run, volume: Volume) -> None:
    """Everything of a run on a volume, up to its segmentation."""
    train(run)
    validate(run)
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())


def segmented(folder: Path) -> Store:
    """A store in which the volume is segmented by the run."""
    store = Store(str(folder))
    volume = make_volume(store)
    make_results(make_run(store), volume)
    return store


def opened(store: Store) -> tuple[Run, Volume]:
    """The run and the volume of a store."""
    return load_run(store, "tiny"), load_volume(store, "phantom")


def make_due(store: Store, due: Unfinished) -> dict[str, list[str]]:
    """Exactly what is due but the report, level by level; what each step made."""
    run, volume = opened(store)
    made = {
        "prediction": predict_volume(run, volume, due.blocks["prediction"], Options()).made,
        "fragments": fragment_volume(run, volume, due.blocks["fragments"], Options()).made,
    }
    if "lut" in due.whole:
        lut_of_volume(run, volume)
    keys = due.blocks["segmentation"]
    made["segmentation"] = segment_blocks(run, volume, keys, Options()).made
    return made


@contextmanager
def unreadable(store: Store, blocks: list[str], volume: str = "phantom") -> Iterator[None]:
    """A chunk of raw data in the middle of each block is garbage, until the body ends."""
    files = {middle_chunk(store, key, volume): b"" for key in blocks}
    for path in files:
        files[path] = path.read_bytes()
        path.write_bytes(b"garbage")
    try:
        yield
    finally:
        for path, content in files.items():
            path.write_bytes(content)


def middle_chunk(store: Store, key: str, volume: str = "phantom") -> Path:
    """The file that holds the chunk in the middle of a block."""
    z, y, x = (int(key[1 + 5 * axis : 5 + 5 * axis]) * 3 + 1 for axis in range(3))
    return Path(store.path(f"volumes/{volume}/raw.zarr/0/c/{z}/{y}/{x}"))


def files_of(store: Store, run: str, volume: str = "phantom") -> dict[str, tuple[int, bytes]]:
    """When every file of a run on a volume was written, and what it holds."""
    root = Path(store.path(f"runs/{run}/{volume}"))
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
