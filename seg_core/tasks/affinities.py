"""Affinities: for every voxel and neighbour, whether both lie in the same object."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from seg_core.errors import SegError
from seg_core.geometry import triple
from seg_core.postprocess import AnyPostprocess
from seg_core.postprocess.postprocess import Offset
from seg_core.postprocess.watershed import Watershed
from seg_core.tasks.task import Task
from seg_core.volumes.ome_zarr import VoxelSize

if TYPE_CHECKING:
    from torch import Tensor

Flag = Annotated[int, Field(ge=0, le=1)]

ISOTROPIC: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (9, 0, 0), (0, 9, 0), (0, 0, 9)]


class Affinities(Task):
    """Instances by affinities (Turaga et al. 2010), with long-range ones as in Lee et al. 2017."""

    kind: Literal["affinities"] = "affinities"
    postprocess: AnyPostprocess = Watershed()
    offsets: list[Offset] = ISOTROPIC
    """Neighbours, in voxels; each along one axis. Those at distance 1 come first and attract."""
    objects: list[int] | None = None
    """Label values whose connected components are the objects; else each label is an object."""
    background: Literal["unknown", "known"] = "unknown"
    """Whether label 0 is what nobody labelled, or labelled as no object."""
    erode: Annotated[list[Flag], Field(min_length=3, max_length=3)] = [1, 1, 1]
    """Along which axes (1 or 0) a border voxel of an object is taken as boundary."""

    @field_validator("offsets")
    @classmethod
    def _along_axes(cls, offsets: list[Offset]) -> list[Offset]:
        for offset in offsets:
            if sorted(offset)[:2] != [0, 0] or max(offset) < 1:
                raise ValueError(
                    f"offset {offset}: expected one positive number and two zeros; the pair that "
                    "[-1, 0, 0] means is that of [1, 0, 0]"
                )
            if offsets.count(offset) > 1:
                raise ValueError(f"offset {offset} is given twice")
        direct = [max(offset) == 1 for offset in offsets]
        if sum(direct) < 2 or direct != sorted(direct, reverse=True):
            raise ValueError("offsets at distance 1 (at least two) come first, longer ones after")
        return offsets

    @property
    def channels(self) -> list[str]:
        """One per offset: `z+1`, `y+9`."""
        return [f"{'zyx'[int(np.argmax(offset))]}+{max(offset)}" for offset in self.offsets]

    @property
    def neighbours(self) -> list[Offset]:
        """The offsets."""
        return self.offsets

    @property
    def criterion(self) -> str:
        """VOI sum, in bits; objects on a background are counted instead, which VOI leaves out."""
        return "average_precision" if self._background_known else "voi_sum"

    @property
    def _background_known(self) -> bool:
        return self.objects is not None or self.background == "known"

    def prepare(self, labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Ids of objects; unknown where label 0 means that nobody labelled it."""
        if self.objects is not None:
            return _components(labels, self.objects), np.ones(labels.shape, bool)
        values, numbers = np.unique(labels, return_inverse=True)
        named = np.cumsum(values != 0, dtype=np.int32) * (values != 0)
        ids = np.asarray(named[numbers].reshape(labels.shape), dtype=np.int32)
        return ids, (ids > 0) | (self.background == "known")

    def target(self, ids: "Tensor", known: "Tensor") -> tuple["Tensor", "Tensor"]:
        """1 where both voxels are in the same object; weight 0 where a label is unknown."""
        import torch

        inner = ids.masked_fill(self._border(ids), 0)
        shape = (ids.shape[0], len(self.offsets), *ids.shape[1:])
        target, weight = torch.zeros(2, *shape, device=ids.device)
        for c, offset in enumerate(self.offsets):
            here, there = _pair(offset, ids.shape[1:])
            target[:, c][here] = ((inner[here] == inner[there]) & (inner[here] > 0)).float()
            weight[:, c][here] = (known[here] & known[there]).float()
        return target, weight

    def _border(self, ids: "Tensor") -> "Tensor":
        import torch

        border = torch.zeros_like(ids, dtype=torch.bool)
        for axis, erode in enumerate(self.erode):
            if erode:
                offset = triple([int(a == axis) for a in range(3)])
                here, there = _pair(offset, ids.shape[1:])
                differs = ids[here] != ids[there]
                border[here] |= differs
                border[there] |= differs
        return border

    def loss(self, logits: "Tensor", target: "Tensor", weight: "Tensor") -> dict[str, "Tensor"]:
        """Cross-entropy with both classes of every channel balanced, and Dice of the boundary."""
        from monai.losses import DiceLoss
        from torch.nn import functional as F

        axes = (0, 2, 3, 4)
        total = weight.sum(axes, keepdim=True).clamp(min=1)
        positive = ((weight * target).sum(axes, keepdim=True) / total).clamp(0.05, 0.95)
        balance = weight * (target / positive + (1 - target) / (1 - positive)) / 2
        entropy = F.binary_cross_entropy_with_logits(logits, target, balance, reduction="none")
        boundary = (-logits).sigmoid()
        dice = DiceLoss(batch=True)(boundary * weight, (1 - target) * weight)
        return {"bce": entropy.sum() / weight.sum().clamp(min=1), "dice": 0.5 * dice}

    def activation(self, logits: "Tensor") -> "Tensor":
        """Probability that both voxels are in one object."""
        return logits.sigmoid()

    def scores(
        self,
        segmentation: NDArray[Any],
        labels: NDArray[Any],
        voxel_size: VoxelSize,  # noqa: ARG002 - overlaps have no scale
    ) -> dict[str, float]:
        """VOI, Rand and detection of objects."""
        from seg_core.evaluate.contingency import Contingency
        from seg_core.evaluate.instance import instance_scores

        table = Contingency()
        ids = labels if self.objects is None else _components(labels, self.objects)
        if not ids.any():
            raise SegError("there is no object in the labels to score against")
        table.add(segmentation, ids.astype(np.uint64))
        background: Literal["known", "unknown"]
        background = "known" if self._background_known else "unknown"
        return instance_scores(table, background=background)


def _components(labels: NDArray[Any], values: list[int]) -> NDArray[np.int32]:
    import cc3d

    found = cc3d.connected_components(np.isin(labels, values), connectivity=6)
    return np.asarray(found, dtype=np.int32)


def _pair(offset: Offset, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Indices (after the batch) of all voxels whose neighbour is inside, and of the neighbours."""
    here = tuple(slice(0, max(0, n - o)) for n, o in zip(shape, offset, strict=True))
    there = tuple(slice(min(o, n), n) for n, o in zip(shape, offset, strict=True))
    return (slice(None), *here), (slice(None), *there)
