"""The region graph of a whole volume: edges inside the blocks, and those across their faces."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.output import Output
from seg_core.fingerprint import fingerprint
from seg_core.geometry import AXES
from seg_core.kernels.region_graph import Edges, concatenate, edges_between
from seg_core.merging.border import read_border, read_edges, write_edges
from seg_core.postprocess.postprocess import Offset

BlockFragments = dict[str, tuple[int, str]]
"""For every block inside the mask in C order: number of its fragments, and a digest of them."""


def read_graph(
    output: Output, blocks: BlockFragments, offsets: list[Offset]
) -> tuple[NDArray[np.int64], Edges]:
    """Voxels of all fragments, (n + 1,) with 0 first, and all edges; makes missing face edges.

    Fragments are numbered from 1 over the blocks in order.
    """
    counts = [count for count, _ in blocks.values()]
    starts = dict(zip(blocks, np.cumsum([0, *counts]).tolist(), strict=False))
    sizes = [np.zeros(1, np.int64), *(read_border(output, key).sizes for key in blocks)]
    parts = [_shift(read_edges(output, key), starts[key], starts[key], 0) for key in blocks]
    for face, key, neighbour in make_faces(output, blocks, offsets):
        count = blocks[key][0]
        above = starts[neighbour] - count
        parts.append(_shift(read_edges(output, face), starts[key], above, count))
    return np.concatenate(sizes), concatenate(parts)


def make_faces(
    output: Output, blocks: BlockFragments, offsets: list[Offset]
) -> list[tuple[str, str, str]]:
    """Make the edges across all faces whose blocks changed: their file, and their two blocks.

    A file is named after what it was made from, so it is right or not there.
    """
    there = set(output.store.names(output.path("edges"), ".parquet"))
    faces = []
    for key, axis, neighbour in _pairs(output, blocks):
        made_from = fingerprint(blocks[key][1], blocks[neighbour][1], offsets)
        faces.append((f"{key}.{AXES[axis]}-{made_from}", key, neighbour))
        if faces[-1][0] not in there:
            edges = _edges_across(output, key, axis, neighbour, offsets)
            write_edges(output, faces[-1][0], edges)
    for name in there - {face for face, _, _ in faces} - set(blocks):
        output.store.remove_file(output.path(f"edges/{name}.parquet"))
    return faces


def _pairs(output: Output, blocks: BlockFragments) -> Iterator[tuple[str, int, str]]:
    for key in blocks:
        for axis in range(3):
            neighbour = output.grid.next_along(key, axis)
            if neighbour in blocks:
                yield key, axis, neighbour


def _edges_across(
    output: Output, key: str, axis: int, neighbour: str, offsets: list[Offset]
) -> Edges:
    """Edges across a face; ids of the upper block come after those of the lower one."""
    low, high = read_border(output, key), read_border(output, neighbour)
    labels = high.labels[axis, "low"]
    lifted = np.where(labels > 0, labels + np.uint32(len(low.sizes)), 0).astype(np.uint32)
    return edges_between(
        np.ascontiguousarray(low.labels[axis, "high"]),
        np.ascontiguousarray(low.affinities[axis]),
        lifted,
        axis,
        offsets,
    )


def _shift(edges: Edges, low: int, high: int, last_low: int) -> Edges:
    """Edges with ids up to `last_low` shifted by `low`, those above by `high`."""

    def shift(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        signed = ids.astype(np.int64)
        return (signed + np.where(signed <= last_low, low, high)).astype(np.uint64)

    sums = (edges.attract_sum, edges.attract_count, edges.repel_sum, edges.repel_count)
    return Edges(shift(edges.u), shift(edges.v), *sums)
