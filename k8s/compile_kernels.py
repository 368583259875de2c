"""Compile the kernels while an image is made, so that no pod has to: numba keeps what it compiled.

Two blocks are segmented by every method from the affinities of their own labels, and scored, by the
same calls that pods make: numba compiles a function for the types that it meets.
"""

from tempfile import TemporaryDirectory

import numpy as np
import torch

from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record, Records
from seg_core.fingerprint import content
from seg_core.fragments import make_fragments
from seg_core.geometry import Box
from seg_core.lut import make_lut
from seg_core.phantom import make_phantom
from seg_core.postprocess.mutex import MutexWatershed
from seg_core.postprocess.watershed import Watershed
from seg_core.segmentation import make_segmentation
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.volumes.declared import add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array

SIZE = (10.0, 10.0, 10.0)
VOLUME = b"raw: raw.zarr\nblock: [24, 24, 24]\nchunk: [12, 12, 12]\n"


def main() -> None:
    """Segment and score."""
    raw, labels = make_phantom((48, 24, 24), seed=1)
    with TemporaryDirectory() as folder:
        store = Store(folder)
        uri, box = store.path("volumes/phantom/raw.zarr"), Box.of_shape(raw.shape)
        create(ZarrArray(uri, box, None, raw.dtype.name, SIZE, (12, 12, 12))).write(box, raw)
        volume = add_volume(store, "phantom", VOLUME, "phantom.yaml")
        for method in (Watershed(), MutexWatershed()):
            output = Output(store, f"runs/{method.kind}/phantom", volume)
            task = Affinities(postprocess=method)
            _give_prediction(output, _ideal(task, labels))
            make_fragments(task, output, 1, None, Options())
            make_lut(task, output, method.choices()[-1])
            make_segmentation(task, output, None, Options())
            made = open_array(store.path(output.path("segmentation.zarr"))).read()
            print(method.kind, task.scores(made, labels, SIZE))


def _ideal(task: Affinities, labels: np.ndarray) -> np.ndarray:
    """Affinities (c, z, y, x) of the labels, 255 being 1."""
    ids, known = (torch.from_numpy(array)[None] for array in task.prepare(labels))
    return (task.target(ids, known)[0][0] * 255).byte().numpy()


def _give_prediction(output: Output, values: np.ndarray) -> None:
    """Let blocks have this prediction, as if it had been made."""
    array = create(output.array("prediction", "uint8", len(values), {"scale": 255}))
    records = Records(output.store, output.path("blocks/prediction"))
    for key in output.grid:
        box = output.grid.box(key)
        inside = np.ascontiguousarray(values[(slice(None), *box.slices)])
        array.write(box, inside)
        records.write(key, Record("done", content=content(inside)))


if __name__ == "__main__":
    main()
