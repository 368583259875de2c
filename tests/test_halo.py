"""The halo of a network, to the voxel."""

from collections.abc import Callable

import pytest
import torch
from small_training import small_store, trained
from torch import nn

from seg_core.architectures.receptive_field import find_halo
from seg_core.errors import SegError
from seg_core.geometry import Triple
from seg_core.store import Store
from seg_core.training.checkpoint import (
    load_network,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("store"))


class SmallUNet(nn.Module):
    """One level below the full resolution, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.below = convolution(3), convolution(3)
        self.out = nn.Conv3d(2, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skip = self.into(image)
        below = self.below(nn.functional.max_pool3d(skip, 2))
        return self.out(torch.cat([skip, nn.functional.interpolate(below, scale_factor=2)], 1))


def convolution(*kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv3d:
    sizes = kernel * 3 if len(kernel) == 1 else kernel
    padding = tuple(dilation * (k // 2) for k in sizes)
    return nn.Conv3d(1, 1, sizes, stride, padding, dilation)


ONE = (1, 1, 1)


@pytest.mark.parametrize(
    ("network", "stride", "halo"),
    [
        (lambda: convolution(1), ONE, (0, 0, 0)),
        (lambda: convolution(3), ONE, (1, 1, 1)),
        (lambda: convolution(3, dilation=2), ONE, (2, 2, 2)),
        (lambda: nn.Sequential(convolution(1, 3, 5), convolution(3)), ONE, (1, 2, 3)),
        # a cell of 2 voxels: each is 1 from the other
        (lambda: nn.Sequential(nn.AvgPool3d(2), nn.Upsample(scale_factor=2)), (2, 2, 2), ONE),
        # a convolution that passes over every other voxel
        (
            lambda: nn.Sequential(convolution(1, stride=2), nn.Upsample(scale_factor=2)),
            (2, 2, 2),
            ONE,
        ),
        # voxel 0 of a cell reaches 1 down, so into the cell before; a convolution below reaches
        # one cell more, -4 is its first voxel; the last convolution goes to -5
        (SmallUNet, (2, 2, 2), (5, 5, 5)),
        # pooling of 32 along x only
        (
            lambda: nn.Sequential(
                nn.AvgPool3d((1, 1, 32)), nn.Upsample(scale_factor=(1.0, 1.0, 32.0))
            ),
            (1, 1, 32),
            (0, 0, 31),
        ),
    ],
)
def test_the_halo_by_hand(network: Callable[[], nn.Module], stride: Triple, halo: Triple) -> None:
    torch.manual_seed(0)
    assert find_halo(network(), 1, stride) == halo


def test_what_sees_everything_has_no_halo() -> None:
    network = nn.Sequential(convolution(3), nn.InstanceNorm3d(1))
    with pytest.raises(SegError, match="use batch normalisation"):
        find_halo(network, 1, ONE)


def test_the_halo_is_kept_with_the_weights(store: Store) -> None:
    run, _ = trained(store, "halo")
    assert load_network(run, 3)[1]["halo"] == [1, 1, 1]
