"""How large segments are, over volumes larger than memory."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.evaluate.contingency import Contingency
from seg_core.geometry import Box
from seg_core.volumes.ome_zarr import VoxelSize, ZarrArray

STEPS = 4  # bins of the histogram in a tenfold


def segment_sizes(segmentation: ZarrArray, pieces: Iterable[Box]) -> tuple[int, NDArray[np.int64]]:
    """Voxels of segment 0, and of every other segment, smallest first.

    Args:
        segmentation: unsigned ids, (z, y, x).
        pieces: boxes that cover what is counted, read one after the other.
    """
    table, nothing = Contingency(), np.zeros((), np.uint64)
    for piece in pieces:
        ids = segmentation.read(piece)
        table.add(ids, np.broadcast_to(nothing, ids.shape))
    segments, _, voxels = table.pairs()
    return int(voxels[segments == 0].sum()), np.sort(voxels[segments > 0])


def describe_sizes(background: int, sizes: NDArray[np.int64], size: VoxelSize) -> dict[str, Any]:
    """Figures and a histogram of sizes: bins of equal width on a log scale.

    Returns:
        voxels of a median, largest and no segment; `edges` (voxels) of the bins and the `segments`
        in each; and `voxel_um3`, um^3 of a voxel.
    """
    largest = int(sizes.max(initial=0))
    low, high = (
        int(np.floor(np.log10(n) * STEPS)) for n in (sizes.min(initial=largest or 1), largest or 1)
    )
    edges = 10.0 ** (np.arange(low, high + 2) / STEPS)
    return {
        "count": len(sizes),
        "median_voxels": float(np.median(sizes)) if len(sizes) else 0.0,
        "largest_voxels": largest,
        "background_voxels": background,
        "voxel_um3": float(np.prod(size)) / 1e9,
        "edges": edges.tolist(),
        "segments": np.histogram(sizes, edges)[0].tolist(),
    }
