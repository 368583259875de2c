"""How much context an output voxel needs, found by putting NaN into the network."""

from typing import TYPE_CHECKING

from seg_core.errors import SegError
from seg_core.geometry import Triple, triple

if TYPE_CHECKING:
    from torch import nn

_LARGEST = 160


def find_halo(network: "nn.Module", in_channels: int, stride: Triple) -> Triple:
    """Voxels of context that make a block's output equal to that of the whole volume.

    NaN spreads through every operation, so NaN in one voxel marks exactly the outputs that depend
    on it. Which these are depends on the voxel's place in the pooling grid: all are tried.

    Raises:
        SegError: every output depends on everything, as with instance normalisation or global
            attention: no halo is large enough.
    """
    return triple([_along(network, in_channels, stride, axis) for axis in range(3)])


def _along(network: "nn.Module", in_channels: int, stride: Triple, axis: int) -> int:
    # enough of the other axes for pooling: along them it only counts whether NaN arrives
    shape, size = [2 * s for s in stride], 8 * stride[axis]
    while size <= max(_LARGEST, 8 * stride[axis]):
        shape[axis] = 2 * size + stride[axis]
        places = range(size, size + stride[axis])
        reaches = [_reach(network, (in_channels, *shape), axis, place) for place in places]
        if None not in reaches:
            return max(reach for reach in reaches if reach is not None)
        size *= 2
    raise SegError(
        "this network's output depends on all of its input (instance normalisation or global "
        "attention?), so blocks cannot be exact; use batch normalisation"
    )


def _reach(network: "nn.Module", shape: tuple[int, ...], axis: int, place: int) -> int | None:
    """How far from voxel `place` an output depends on it; None where that is to the very end."""
    import torch

    image = torch.zeros(1, *shape)
    image.movedim(2 + axis, 0)[place] = torch.nan
    with torch.no_grad():
        marked = network.eval()(image).isnan().movedim(2 + axis, 0).flatten(1).any(1)
    touched = marked.nonzero().flatten()
    if len(touched) == 0:  # a strided convolution with a kernel of 1 passes over some voxels
        return 0
    if touched[0] == 0 or touched[-1] == len(marked) - 1:
        return None
    return max(place - int(touched[0]), int(touched[-1]) - place)
