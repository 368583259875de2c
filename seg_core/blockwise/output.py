"""Where the steps of one run on one volume write: arrays on its grid, records by block."""

from dataclasses import dataclass
from typing import Any

from seg_core.geometry import BlockGrid
from seg_core.store import Store
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray


@dataclass(frozen=True)
class Output:
    """A folder of the store that holds prediction, fragments, table and segmentation."""

    store: Store
    folder: str
    volume: Volume

    @property
    def grid(self) -> BlockGrid:
        """The blocks."""
        return self.volume.grid

    def array(
        self,
        name: str,
        dtype: str,
        channels: int | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> ZarrArray:
        """An array over the volume's ROI, whose chunks start where the blocks start."""
        return ZarrArray(
            uri=self.store.path(f"{self.folder}/{name}.zarr"),
            box=self.volume.roi,
            channels=channels,
            dtype=dtype,
            voxel_size=self.volume.voxel_size,
            chunk=self.volume.config.chunk,
            attributes=attributes or {},
        )

    def place(self, key: str) -> str:
        """Where a block lies in its arrays, which are made anew when their shape changes."""
        chunk = list(self.volume.config.chunk)
        return f"{self.grid.box(key)} of {self.volume.roi} in chunks of {chunk}"

    def path(self, relative: str) -> str:
        """A file of the folder, relative to the store."""
        return f"{self.folder}/{relative}"
