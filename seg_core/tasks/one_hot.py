"""Semantic segmentation: one class for every voxel."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from seg_core.errors import SegError
from seg_core.evaluate.checks import check_names
from seg_core.postprocess import AnyPostprocess
from seg_core.postprocess.argmax import Argmax
from seg_core.tasks.task import Task
from seg_core.volumes.ome_zarr import VoxelSize

if TYPE_CHECKING:
    from torch import Tensor


class OneHot(Task):
    """Classes by softmax; what belongs to none of them is the background, class 0."""

    kind: Literal["one_hot"] = "one_hot"
    postprocess: AnyPostprocess = Argmax()
    classes: Annotated[dict[str, list[int]], Field(min_length=1)]
    """Name of every class, with the label values that mean it."""
    unknown: list[int] = []
    """Label values that say nothing."""

    @field_validator("classes")
    @classmethod
    def _can_be_scored(cls, classes: dict[str, list[int]]) -> dict[str, list[int]]:
        try:
            check_names(list(classes))
        except SegError as error:
            raise ValueError(str(error)) from None
        return classes

    @model_validator(mode="after")
    def _values_mean_one_thing(self) -> "OneHot":
        values = [v for meant in (*self.classes.values(), self.unknown) for v in set(meant)]
        if twice := sorted({v for v in values if values.count(v) > 1}):
            raise ValueError(f"label values {twice} mean more than one thing")
        return self

    @property
    def channels(self) -> list[str]:
        """Background first, then the classes."""
        return ["background", *self.classes]

    @property
    def criterion(self) -> str:
        """Dice, the mean of the classes."""
        return "mean/dice"

    def prepare(self, labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Number of the class of every voxel."""
        ids = np.zeros(labels.shape, np.int32)
        for number, values in enumerate(self.classes.values(), start=1):
            ids[np.isin(labels, values)] = number
        return ids, ~np.isin(labels, self.unknown)

    def target(self, ids: "Tensor", known: "Tensor") -> tuple["Tensor", "Tensor"]:
        """1 in the channel of the voxel's class."""
        from torch.nn import functional as F

        target = F.one_hot(ids.long(), len(self.channels)).movedim(-1, 1).float()
        return target, known[:, None].float().expand_as(target)

    def loss(self, logits: "Tensor", target: "Tensor", weight: "Tensor") -> dict[str, "Tensor"]:
        """Cross-entropy, rare classes weighted up by the root of their rarity, and Dice."""
        from monai.losses import DiceLoss
        from torch.nn import functional as F

        known = weight[:, 0]
        share = (target * weight).sum((0, 2, 3, 4)) / known.sum().clamp(min=1)
        balance = 1 / (share * len(self.channels)).clamp(min=0.05).sqrt()
        entropy = F.cross_entropy(logits, target.argmax(1), balance, reduction="none")
        dice = DiceLoss(batch=True, include_background=False)
        return {
            "ce": (entropy * known).sum() / known.sum().clamp(min=1),
            "dice": dice(logits.softmax(1) * weight, target * weight),
        }

    def activation(self, logits: "Tensor") -> "Tensor":
        """Probability of every class."""
        return logits.softmax(1)

    def scores(
        self, segmentation: NDArray[Any], labels: NDArray[Any], voxel_size: VoxelSize
    ) -> dict[str, float]:
        """Dice, Jaccard, precision, distances of every class, and their means."""
        from seg_core.evaluate.binary import class_scores

        truth, known = self.prepare(labels)
        return class_scores(segmentation, truth, list(self.classes), voxel_size, mask=known)
