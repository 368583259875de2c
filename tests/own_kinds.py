"""Classes of a user's own: a network, a task, an augmentation and a post-processor."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seg_core.architectures.architecture import Architecture
from seg_core.evaluate.binary import binary_scores
from seg_core.geometry import Triple
from seg_core.postprocess import AnyPostprocess
from seg_core.postprocess.argmax import Argmax
from seg_core.postprocess.postprocess import Joined
from seg_core.tasks.task import Task
from seg_core.training.augment import Augmentation


class Plain(Architecture):
    """Two convolutions."""

    kind: str = "own_kinds:Plain"
    width: int = 16

    @property
    def stride(self) -> Triple:
        return 1, 1, 1

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(in_channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(self.width, out_channels, 1),
        )


class Inside(Task):
    """What has a label, against what has none."""

    kind: str = "own_kinds:Inside"
    postprocess: AnyPostprocess = Argmax()

    @property
    def channels(self) -> list[str]:
        return ["outside", "inside"]

    @property
    def criterion(self) -> str:
        return "dice"

    def prepare(self, labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        return (labels > 0).astype(np.int32), np.ones(labels.shape, bool)

    def target(self, ids: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        target = torch.stack([ids == 0, ids > 0], 1).float()
        return target, known[:, None].float().expand_as(target)

    def loss(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"square": ((logits.sigmoid() - target).square() * weight).mean()}

    def activation(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def scores(
        self, segmentation: NDArray[Any], labels: NDArray[Any], voxel_size: Any
    ) -> dict[str, float]:
        return binary_scores(segmentation > 0, labels > 0, voxel_size)


class Brighter(Augmentation):
    """Every crop by the same."""

    kind: str = "own_kinds:Brighter"
    by: float

    def transforms(self) -> list[Any]:
        from monai.transforms import ShiftIntensityd

        return [ShiftIntensityd(["raw"], offset=self.by)]


class Voxels(Joined):
    """Every voxel is a fragment."""

    kind: str = "own_kinds:Voxels"

    def label(
        self,
        prediction: NDArray[np.uint8],
        offsets: Any,  # noqa: ARG002
        voxel_size: Any,  # noqa: ARG002
    ) -> NDArray[np.uint64]:
        shape = prediction.shape[1:]
        return np.arange(1, np.prod(shape) + 1, dtype=np.uint64).reshape(shape)
