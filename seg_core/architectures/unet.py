"""The U-Net of nnU-Net (Isensee et al. 2021), from MONAI: kernels and strides for every level."""

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from seg_core.architectures.architecture import Architecture
from seg_core.geometry import Triple, triple
from seg_core.volumes.declared import Shape

if TYPE_CHECKING:
    from torch import nn


class UNet(Architecture):
    """Two convolutions a level, strided ones between levels; batch norm, so that blocks are exact.

    Anisotropic data: kernels [1, 3, 3] and strides [1, 2, 2] in the first levels.
    """

    kind: Literal["unet"] = "unet"
    features: Annotated[list[int], Field(min_length=3)] = [16, 32, 64]
    """Channels of every level, full resolution first."""
    kernels: list[Shape] | None = None
    """Convolution kernel of every level, 3 x 3 x 3 unless given."""
    strides: list[Shape] | None = None
    """Downsampling from every level to the next, 2 x 2 x 2 unless given."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "UNet":
        levels = len(self.features)
        if self.kernels is not None and len(self.kernels) != levels:
            raise ValueError(f"kernels: expected one for each of {levels} levels of features")
        if self.strides is not None and len(self.strides) != levels - 1:
            raise ValueError(f"strides: expected {levels - 1}, one between two levels")
        return self

    @property
    def _strides(self) -> list[Triple]:
        return list(self.strides or [(2, 2, 2)] * (len(self.features) - 1))

    @property
    def stride(self) -> Triple:
        """Product of the strides."""
        return triple(np.prod(self._strides, axis=0).tolist())

    def build(self, in_channels: int, out_channels: int) -> "nn.Module":
        """MONAI's DynUNet."""
        from monai.networks.nets import DynUNet

        return DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=self.kernels or [(3, 3, 3)] * len(self.features),
            strides=[(1, 1, 1), *self._strides],
            upsample_kernel_size=self._strides,
            filters=self.features,
            norm_name="batch",
            act_name="relu",
        )
