"""What a block leaves for the table: edges between its fragments, and slabs at its faces."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seg_core.blockwise.output import Output
from seg_core.fingerprint import content
from seg_core.geometry import AXES
from seg_core.kernels.region_graph import Edges
from seg_core.postprocess.postprocess import Offset


@dataclass(frozen=True)
class Border:
    """Sizes of a block's fragments, and slabs as thick as the longest offset along each axis.

    Attributes:
        sizes: int64 (n,), voxels of the fragments 1 to n.
        labels: for (axis, "low" or "high") the labels of the slab there, uint32 (z, y, x).
        affinities: for each axis those of the high slab, uint8 (c, z, y, x).
    """

    sizes: NDArray[np.int64]
    labels: dict[tuple[int, str], NDArray[np.uint32]]
    affinities: dict[int, NDArray[np.uint8]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name."""
        labels = {f"{AXES[axis]}_{side}": slab for (axis, side), slab in self.labels.items()}
        slabs = {f"{AXES[axis]}_affinities": slab for axis, slab in self.affinities.items()}
        return {"sizes": self.sizes, **labels, **slabs}


def cut_border(
    labels: NDArray[np.uint32], prediction: NDArray[np.uint8], offsets: list[Offset], count: int
) -> Border:
    """The border of a block whose fragments are 1 to `count`."""
    slabs: dict[tuple[int, str], NDArray[np.uint32]] = {}
    affinities = {}
    for axis in range(3):
        depth = min(max((o[axis] for o in offsets), default=0), labels.shape[axis])
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, depth), slice(labels.shape[axis] - depth, None)
        slabs[axis, "low"], slabs[axis, "high"] = labels[tuple(low)], labels[tuple(high)]
        affinities[axis] = prediction[(slice(None), *high)]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(np.int64)
    return Border(sizes, slabs, affinities)


def write_block(output: Output, key: str, edges: Edges, border: Border) -> str:
    """Write edges and border of a block; returns a digest of both."""
    slabs, arrays = io.BytesIO(), border.arrays()
    np.savez_compressed(slabs, **arrays)  # type: ignore[arg-type]
    write_edges(output, key, edges)
    output.store.write_bytes(output.path(f"edges/{key}.npz"), slabs.getvalue())
    table = edges.to_frame()
    return content(*(table[name].to_numpy() for name in table), *arrays.values())


def remove_block(output: Output, key: str) -> None:
    """Remove edges and border of a block."""
    for suffix in ("parquet", "npz"):
        output.store.remove(output.path(f"edges/{key}.{suffix}"))


def write_edges(output: Output, name: str, edges: Edges) -> None:
    """Write edges of a block (or across a face)."""
    table = io.BytesIO()
    edges.to_frame().to_parquet(table)
    output.store.write_bytes(output.path(f"edges/{name}.parquet"), table.getvalue())


def read_edges(output: Output, name: str) -> Edges:
    """Edges of a block (or across a face), ids being those in their block."""
    raw = output.store.read_bytes(output.path(f"edges/{name}.parquet"))
    return Edges.from_frame(pd.read_parquet(io.BytesIO(raw)))


def read_border(output: Output, key: str) -> Border:
    """The border of a block."""
    with np.load(io.BytesIO(output.store.read_bytes(output.path(f"edges/{key}.npz")))) as file:
        sides = [(axis, side) for axis in range(3) for side in ("low", "high")]
        labels = {(axis, side): file[f"{AXES[axis]}_{side}"] for axis, side in sides}
        affinities = {axis: file[f"{AXES[axis]}_affinities"] for axis in range(3)}
        return Border(file["sizes"], labels, affinities)
