"""What every architecture owns: how its network is built, and how far it pools."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from seg_core.geometry import Triple
from seg_core.schema import Strict

if TYPE_CHECKING:
    from torch import nn


class Architecture(Strict, ABC):
    """A network of the same output as input shape, (b, c, z, y, x)."""

    kind: str

    @abstractmethod
    def build(self, in_channels: int, out_channels: int) -> "nn.Module":
        """The network, freshly initialised from torch's random state."""

    @property
    @abstractmethod
    def stride(self) -> Triple:
        """Input shapes are multiples of this: the product of all poolings."""
