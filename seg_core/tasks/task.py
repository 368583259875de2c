"""What every task owns: target, loss, activation, post-processing, and how it is scored."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from seg_core.postprocess.postprocess import Postprocess
from seg_core.schema import Strict
from seg_core.volumes.ome_zarr import VoxelSize

if TYPE_CHECKING:
    from torch import Tensor


class Task(Strict, ABC):
    """What is learnt from labels, and how the network's output becomes a segmentation.

    Loading a task imports no torch: only `target`, `loss` and `activation` do.
    """

    kind: str
    postprocess: Postprocess

    @model_validator(mode="after")
    def _fits_its_postprocess(self) -> "Task":
        if self.postprocess.joins and not self.neighbours:
            raise ValueError(
                f"postprocess {self.postprocess.kind} joins fragments by affinities, which task "
                f"{self.kind} does not predict; take argmax"
            )
        if self.neighbours and not self.postprocess.joins:
            raise ValueError(
                f"postprocess {self.postprocess.kind} makes classes, but task {self.kind} predicts "
                "affinities; take watershed or mutex_watershed"
            )
        return self

    @property
    @abstractmethod
    def channels(self) -> list[str]:
        """Name of every output channel."""

    @property
    def neighbours(self) -> list[tuple[int, int, int]]:
        """For affinities: which neighbour each channel speaks of, as an offset in voxels."""
        return []

    @property
    @abstractmethod
    def criterion(self) -> str:
        """The score that chooses the best, unless the run names another."""

    @abstractmethod
    def prepare(self, labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """What the labels mean to this task.

        Args:
            labels: (z, y, x) integers of a whole source.

        Returns:
            ids of objects or classes (0: none), and where the labels are known at all.
        """

    @abstractmethod
    def target(self, ids: "Tensor", known: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Target and weight, each (b, c, z, y, x) float, from ids and known (b, z, y, x).

        These are on the device that the network is on.
        """

    @abstractmethod
    def loss(self, logits: "Tensor", target: "Tensor", weight: "Tensor") -> dict[str, "Tensor"]:
        """The terms of the loss, by name; their sum is minimised."""

    @abstractmethod
    def activation(self, logits: "Tensor") -> "Tensor":
        """From the network's output to values in 0 to 1."""

    @abstractmethod
    def scores(
        self, segmentation: NDArray[Any], labels: NDArray[Any], voxel_size: VoxelSize
    ) -> dict[str, float]:
        """Every metric of this task, for a segmentation against labels as they are stored."""
