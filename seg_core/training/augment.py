"""Random changes of training crops, by MONAI's transforms: raw, ids and known change together."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from seg_core.geometry import Triple, triple
from seg_core.plugin import by_kind
from seg_core.schema import Strict

Probability = Annotated[float, Field(ge=0, le=1)]
Axis = Annotated[int, Field(ge=0, le=2)]
ALL = ["raw", "ids", "known"]


class Augmentation(Strict, ABC):
    """One family of random changes; its randomness is seeded for every crop by the sampler."""

    kind: str

    @abstractmethod
    def transforms(self) -> list[Any]:
        """MONAI dictionary transforms of the keys raw, ids and known, each (c, z, y, x)."""

    def shapes(self, shape: Triple) -> set[Triple]:
        """Every shape that a crop of `shape` may have afterwards."""
        return {shape}


class Mirror(Augmentation):
    """Flip along axes."""

    kind: Literal["mirror"] = "mirror"
    axes: list[Axis] = [0, 1, 2]
    """Axes (0 z, 1 y, 2 x), each flipped in half of the crops."""

    def transforms(self) -> list[Any]:
        """A flip for every axis."""
        from monai.transforms import RandFlipd

        return [RandFlipd(ALL, prob=0.5, spatial_axis=axis) for axis in self.axes]


class Rotate90(Augmentation):
    """Turn by quarters in planes; only planes of equal voxel and crop sizes make sense."""

    kind: Literal["rotate90"] = "rotate90"
    planes: list[tuple[Axis, Axis]] = [(0, 1), (0, 2), (1, 2)]
    """Pairs of axes."""

    @field_validator("planes")
    @classmethod
    def _have_two_axes(cls, planes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        if any(a == b for a, b in planes):
            raise ValueError("a plane has two different axes")
        return planes

    def transforms(self) -> list[Any]:
        """A turn for every plane."""
        from monai.transforms import RandRotate90d

        return [RandRotate90d(ALL, prob=0.5, max_k=3, spatial_axes=p) for p in self.planes]

    def shapes(self, shape: Triple) -> set[Triple]:
        """Sides change places in every plane."""
        found = {shape}
        for a, b in self.planes:
            other = {a: b, b: a}
            found |= {triple([s[other.get(axis, axis)] for axis in range(3)]) for s in found}
        return found


class Intensity(Augmentation):
    """Contrast and brightness of the normalised image."""

    kind: Literal["intensity"] = "intensity"
    scale: NonNegativeFloat = 0.25
    """Contrast is multiplied by up to 1 +- this."""
    shift: NonNegativeFloat = 0.5
    """Brightness is shifted by up to this, in standard deviations."""

    def transforms(self) -> list[Any]:
        """Scale, then shift, in every crop."""
        from monai.transforms import RandScaleIntensityd, RandShiftIntensityd

        return [
            RandScaleIntensityd(["raw"], factors=self.scale, prob=1.0),
            RandShiftIntensityd(["raw"], offsets=self.shift, prob=1.0),
        ]


class Noise(Augmentation):
    """Gaussian noise."""

    kind: Literal["noise"] = "noise"
    std: NonNegativeFloat = 0.25
    """Its largest standard deviation, in standard deviations of the image."""
    probability: Probability = 0.5

    def transforms(self) -> list[Any]:
        """Noise of a random strength."""
        from monai.transforms import RandGaussianNoised

        return [RandGaussianNoised(["raw"], prob=self.probability, std=self.std, sample_std=True)]


class Blur(Augmentation):
    """Gaussian blur, as of a lens out of focus."""

    kind: Literal["blur"] = "blur"
    sigma: NonNegativeFloat = 1.0
    """Largest width in voxels."""
    probability: Probability = 0.2

    def transforms(self) -> list[Any]:
        """A blur of a random width."""
        from monai.transforms import RandGaussianSmoothd

        width = (0.25, max(0.25, self.sigma))
        return [RandGaussianSmoothd(["raw"], width, width, width, prob=self.probability)]


AUGMENTATIONS = {
    cls.model_fields["kind"].default: f"{__name__}:{cls.__name__}"
    for cls in (Mirror, Rotate90, Intensity, Noise, Blur)
}

AnyAugmentation = Annotated[Augmentation, *by_kind(AUGMENTATIONS, Augmentation)]


def compose(augmentations: list[Augmentation]) -> Any:
    """All transforms in the order given; seed with `set_random_state` before every crop."""
    from monai.data import set_track_meta
    from monai.transforms import Compose

    set_track_meta(False)  # crops have no affine; to keep one took half of the time
    return Compose([t for a in augmentations for t in a.transforms()])
