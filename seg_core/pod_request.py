"""What a step's pod asks for, as a volume or a run may say; without Kubernetes it has no effect."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat

from seg_core.schema import Strict

StepName: TypeAlias = Literal[
    "datasplit",
    "checkpoint",
    "validation_scores",
    "prediction",
    "fragments",
    "lut",
    "segmentation",
    "report",
]


class PodRequest(Strict):
    """What is left out is as whoever comes before says: run, then volume, then deployment."""

    cpu: PositiveFloat | None = None
    """Cores."""
    memory: PositiveFloat | None = None
    """GB; a pod that takes more is ended. The run's compute.memory and 1 GB unless given."""
    disk: PositiveFloat | None = None
    """GB of the node's own disk, for temporary files."""
    gpus: NonNegativeInt | None = None
    grace: Annotated[int, Field(ge=5)] | None = None
    """Seconds between being asked to stop and being killed: more than a sub-block takes."""

    def over(self, other: "PodRequest") -> "PodRequest":
        """This, and where it says nothing, the other."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


PodRequests: TypeAlias = dict[StepName, PodRequest]
