"""How much context an output voxel needs, found by putting NaN into the network."""

from typing import TYPE_CHECKING

from seg_core.errors import SegError
from seg_core.geometry import Triple, triple

if TYPE_CHECKING:
    from torch import nn

_LARGEST = 160


def find_halo(network: "nn.Module", in_channels: int, stride: Triple) -> Triple:
    """Voxels of context that make a block's output equal to that of the whole volume.

    NaN spreads through every operation, so NaN in one cell of the pooling grid marks exactly the
    outputs that depend on it. The halo is a multiple of the stride.

    Raises:
        SegError: every output depends on everything, as with instance normalisation or global
            attention: no halo is large enough.
    """
    return triple([_along(network, in_channels, stride, axis) for axis in range(3)])


def _along(network: "nn.Module", in_channels: int, stride: Triple, axis: int) -> int:
    import torch

    step = stride[axis]
    size = 2 * step
    while size <= _LARGEST:
        size *= 2
        # enough of the other axes for one cell: along them only whether it arrives counts
        shape = [2 * s for s in stride]
        shape[axis] = 2 * size // step * step + step
        image = torch.zeros(1, in_channels, *shape)
        first = size // step * step
        image.movedim(2 + axis, 0)[first : first + step] = torch.nan
        network.eval()
        with torch.no_grad():
            marked = network(image).isnan().movedim(2 + axis, 0).flatten(1).any(1)
        touched = marked.nonzero().flatten()
        if touched[0] > 0 and touched[-1] < shape[axis] - 1:
            reach = max(first - int(touched[0]), int(touched[-1]) - first - step + 1) + step - 1
            return -(-reach // step) * step
    raise SegError(
        "this network's output depends on all of its input (instance normalisation or global "
        "attention?), so blocks cannot be exact; use batch normalisation"
    )
