"""A volume with a mask on disk, both given as arrays."""

from typing import Any

from numpy.typing import NDArray

from seg_core.geometry import Box, Triple, triple
from seg_core.store import Store
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

SIZE = (40.0, 8.0, 8.0)


def write_array(
    store: Store, path: str, data: NDArray[Any], size: tuple[float, float, float] = SIZE
) -> None:
    store.remove(path)
    box, chunk = Box.of_shape(data.shape), triple([min(4, n) for n in data.shape])
    array = ZarrArray(store.path(path), box, None, data.dtype.name, size, chunk)
    create(array).write(box, data)


def masked_volume(
    store: Store,
    raw: NDArray[Any],
    mask: NDArray[Any] | None,
    *,
    factor: Triple = (1, 1, 1),
    block: Triple = (8, 8, 8),
    rois: list[str] | None = None,
) -> Volume:
    write_array(store, "volumes/v/raw.zarr", raw)
    text = f"raw: raw.zarr\nblock: {list(block)}\nchunk: [4, 4, 4]\n"
    if mask is not None:
        size = (SIZE[0] * factor[0], SIZE[1] * factor[1], SIZE[2] * factor[2])
        write_array(store, "volumes/v/mask.zarr", mask, size)
        text += "mask: mask.zarr\n"
    text += f"rois: {rois}\n" if rois else ""
    return add_volume(store, "v", text.encode(), "v.yaml")
