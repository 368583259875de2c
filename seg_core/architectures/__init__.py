"""Networks: one file per architecture."""

from typing import Annotated

from seg_core.architectures.architecture import Architecture
from seg_core.plugin import by_kind

ARCHITECTURES = {"unet": "seg_core.architectures.unet:UNet"}

AnyArchitecture = Annotated[Architecture, *by_kind(ARCHITECTURES, Architecture)]
