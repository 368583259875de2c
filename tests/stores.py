"""Small stores: a volume on disk, and a prediction that is given instead of computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record, Records
from seg_core.fingerprint import content
from seg_core.geometry import Box, Triple, triple
from seg_core.postprocess.postprocess import Offset
from seg_core.store import Store
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array

SIZE = (40.0, 8.0, 8.0)


def slices_of(roi: Box) -> str:
    return ", ".join(f"{b}:{e}" for b, e in zip(roi.begin, roi.end, strict=True))


def declare(
    store: Store,
    raw: NDArray[Any],
    *,
    block: Sequence[int],
    chunk: Sequence[int],
    roi: Box | None = None,
) -> Volume:
    """Write an image once and declare it as the volume `v`."""
    uri = store.path("volumes/v/raw.zarr")
    if not Path(uri).exists():
        small = triple([min(8, n) for n in raw.shape])
        box = Box.of_shape(raw.shape)
        create(ZarrArray(uri, box, None, raw.dtype.name, SIZE, small)).write(box, raw)
    lines = [f"raw: raw.zarr\nblock: {list(block)}\nchunk: {list(chunk)}\n"]
    lines += [f"roi: '{slices_of(roi)}'\n"] if roi else []
    return add_volume(store, "v", "".join(lines).encode(), "v.yaml")


def output_for(
    folder: Path,
    shape: Sequence[int],
    *,
    block: Sequence[int],
    chunk: Sequence[int],
    roi: Box | None = None,
) -> Output:
    """Where results lie on a volume whose image does not matter."""
    store = Store(str(folder))
    raw = np.zeros(triple(shape), np.uint8)
    return Output(store, "runs/r/v", declare(store, raw, block=block, chunk=chunk, roi=roi))


def give_prediction(
    output: Output, values: NDArray[Any], keys: Sequence[str] | None = None
) -> None:
    """Let blocks have this prediction, (c, z, y, x) over the ROI."""
    array = create(
        output.array("prediction", values.dtype.name, len(values), {"scale": 1}), overwrite=True
    )
    records = Records(output.store, output.path("blocks/prediction"))
    for key in keys or output.grid:
        box = output.grid.box(key)
        inside = values[(slice(None), *box.relative_to(output.grid.roi.begin).slices)]
        array.write(box, inside)
        records.write(key, Record("done", content=content(np.ascontiguousarray(inside))))


def ideal_affinities(
    labels: NDArray[Any], offsets: Sequence[Offset], roi: Box | None = None
) -> NDArray[np.uint8]:
    """255 where both voxels have one label that is not 0, else 0, as beyond the volume."""
    affinities = np.zeros((len(offsets), *labels.shape), np.uint8)
    for channel, offset in zip(affinities, offsets, strict=True):
        here = tuple(slice(0, max(0, n - o)) for n, o in zip(labels.shape, offset, strict=True))
        there = tuple(slice(min(o, n), n) for n, o in zip(labels.shape, offset, strict=True))
        channel[here] = 255 * ((labels[here] == labels[there]) & (labels[here] > 0))
    return affinities[(slice(None), *roi.slices)] if roi else affinities


def ideal_segments(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Components of equal labels by faces; every voxel of label 0 is its own."""
    found = np.zeros(labels.shape, np.int64)
    for value in np.unique(labels[labels > 0]):
        pieces, _ = label(labels == value)
        found[pieces > 0] = found.max() + pieces[pieces > 0]
    nothing = labels == 0
    found[nothing] = found.max() + np.arange(1, np.count_nonzero(nothing) + 1)
    return found


def assert_same_partition(got: NDArray[Any], expected: NDArray[Any]) -> None:
    assert got.shape == expected.shape
    assert got.min() > 0
    pairs = np.unique(np.stack([got.ravel().astype(np.int64), expected.ravel()]), axis=1)
    split = len(pairs[0]) - len(np.unique(expected))
    merged = len(pairs[0]) - len(np.unique(got))
    assert (split, merged) == (0, 0)


def read(output: Output, name: str) -> NDArray[Any]:
    return open_array(output.store.path(output.path(f"{name}.zarr"))).read()


def chunks_of(output: Output, name: str) -> dict[str, bytes]:
    """Every file of an array, by its path in it."""
    root = Path(output.store.path(output.path(f"{name}.zarr")))
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def random_labels(
    random: np.random.Generator, shape: Triple, labels: Sequence[int], grain: Sequence[int]
) -> NDArray[np.int64]:
    """Grains of random labels: (1, 1, 1) is noise, a longer one gives thin plates and rods."""
    coarse = random.choice(labels, [-(-n // g) for n, g in zip(shape, grain, strict=True)])
    for axis, size in enumerate(grain):
        coarse = coarse.repeat(size, axis)
    return coarse[tuple(slice(0, n) for n in shape)]
