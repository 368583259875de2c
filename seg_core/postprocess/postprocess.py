"""What every post-processing owns: the labels of a piece, and how the pieces are joined.

A kind imports what labels where it labels: whoever reads its settings loads no array library.
"""

from abc import ABC, abstractmethod
from itertools import product
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from seg_core.schema import Strict
from seg_core.volumes.declared import Shape
from seg_core.volumes.ome_zarr import VoxelSize

Offset = tuple[int, int, int]
Parameters = dict[str, float]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0)]

WeakVoxels = Annotated[
    Literal["grow", "background", "own"],
    Field(
        description="What becomes of voxels that no strong affinity binds to anything (membrane): "
        "the fragments around grow over them, they are background, or each is its own fragment."
    ),
]


class Agglomeration(Strict):
    """How fragments become segments. A list of values is swept by validation, the best is kept."""

    threshold: Fraction | list[Fraction] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    """Mean affinity above which two segments are merged."""
    size_penalty: Positive | list[Positive] = [0.0, 0.1]
    """Taken off the mean affinity for every tenfold of the smaller segment above 1,000 voxels:
    forbids the one false merge of two large bodies."""
    repulsion: Positive | list[Positive] = 0.0
    """Weight of long-range affinities below 0.5 in the mean."""
    min_size: Positive | list[Positive] = 0.0
    """Segments of fewer voxels join their closest neighbour."""
    drop_size: Positive | list[Positive] = 0.0
    """Segments of fewer voxels become background."""

    def choices(self) -> list[Parameters]:
        """Every combination of the values given."""
        values = {name: value if isinstance(value, list) else [value] for name, value in self}
        return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


class Postprocess(Strict, ABC):
    """From a prediction to fragments; from fragments to segments where `joins` says so."""

    joins: ClassVar[bool] = False
    """Whether fragments are joined (see `Joined`); else they are classes, whose ids hold
    everywhere."""

    kind: str
    sub_block: Shape | None = None
    """Voxels that are post-processed at once, inside a block; a multiple of the volume's chunk."""

    @abstractmethod
    def label(
        self, prediction: NDArray[np.uint8], offsets: list[Offset], voxel_size: VoxelSize
    ) -> NDArray[np.uint64]:
        """Labels (z, y, x) of one sub-block from its prediction (c, z, y, x), 255 being 1."""

    def choices(self) -> list[Parameters]:
        """The parameters to sweep, after the fragments are made."""
        return [{}]


class Joined(Postprocess):
    """Fragments of affinities, joined by agglomeration."""

    joins: ClassVar[bool] = True

    agglomeration: Agglomeration = Agglomeration()

    def choices(self) -> list[Parameters]:
        """Those of the agglomeration."""
        return self.agglomeration.choices()
