"""N5: a dataset of a container; axes are x, y, z, then channels, and so are its attributes."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.remote import RETRIES, is_remote, kvstore, open_fs
from seg_core.volumes.formats.source import Source, guess_axes, nanometres
from seg_core.volumes.ome_zarr import VoxelSize, local_root

_LAYOUT = ("dimensions", "blockSize", "dataType", "compression", "compressionType")


@dataclass(frozen=True)
class _Blocks:
    store: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.store.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.store.dtype.numpy_dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self.store[index].read().result())


def open_n5(path: str) -> Source | None:
    """Open CONTAINER.n5/DATASET; None where there is no N5.

    The voxel size is `resolution` or `pixelResolution`, x, y, z, in nanometres unless they say
    otherwise.

    Raises:
        SegError: the folder is in or is a container, but no dataset.
    """
    fs, root = open_fs(path)
    try:
        attributes = json.loads(fs.cat_file(f"{root}/attributes.json"))
    except (FileNotFoundError, NotADirectoryError):
        attributes = {}
    if "dimensions" not in attributes:
        if fs.isdir(root) and (root.endswith(".n5") or "n5" in attributes):
            known = ", ".join(_datasets(fs, root)) or "none"
            raise SegError(
                f"{path}: is N5 and needs a dataset; expected {path}/DATASET of: {known}"
            )
        return None
    place = kvstore(path) if is_remote(path) else {"driver": "file", "path": local_root(path)}
    store = _open(place, attributes)
    axes = guess_axes(store.shape[::-1])[::-1]
    return Source(path, _Blocks(store), axes, _voxel_size(attributes))


def _open(place: Any, attributes: dict[str, Any]) -> Any:
    """Open a dataset as if it had just the attributes that say how its blocks are stored.

    tensorstore would refuse it for a `resolution` or `units` in another form than its own.
    """
    context, name = ts.Context(RETRIES), "attributes.json"
    needed = {key: attributes[key] for key in _LAYOUT if key in attributes}
    memory = ts.KvStore.open("memory://", context=context).result()
    memory.write(name, json.dumps(needed).encode()).result()
    layers = [{"base": place}, {"exact": name, "base": f"memory://{name}"}]
    spec = {"driver": "n5", "kvstore": {"driver": "kvstack", "layers": layers}}
    return ts.open(spec, read=True, context=context).result()


def _voxel_size(attributes: dict[str, Any]) -> VoxelSize | None:
    size, unit = attributes.get("resolution"), attributes.get("units", "nm")
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, dict):
        size, unit = pixel.get("dimensions"), pixel.get("unit", "nm")
    unit = unit[0] if isinstance(unit, list) and unit else unit
    if not isinstance(size, list) or len(size) != 3:
        return None
    return nanometres([float(s) for s in size[::-1]], str(unit))


def _datasets(fs: Any, root: str) -> list[str]:
    found = [
        path[len(root) :].strip("/").removesuffix("/attributes.json")
        for path in fs.glob(f"{root}/**/attributes.json")
        if "dimensions" in json.loads(fs.cat_file(path))
    ]
    return sorted(found)
