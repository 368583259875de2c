"""A declared volume: where its data is, what of it is processed, and in which blocks."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from posixpath import normpath
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from seg_core.errors import SegError
from seg_core.geometry import BlockGrid, Box, parse_box
from seg_core.pod_request import PodRequests
from seg_core.schema import Strict, check_name, parse
from seg_core.store import Store
from seg_core.volumes.mask import OUTSIDE, Mask, make_mask
from seg_core.volumes.ome_zarr import VoxelSize, ZarrArray, integer_dtype, open_array

Shape = tuple[PositiveInt, PositiveInt, PositiveInt]
PositiveSize = tuple[PositiveFloat, PositiveFloat, PositiveFloat]

RESERVED = ("checkpoints", "checks", "compared", "validation")
"""Folders of a run's own, beside which lie those of its results, by volume."""


class VolumeConfig(Strict):
    """The YAML file of a volume; shapes and ROIs are voxels along z, y, x."""

    raw: str
    """OME-Zarr of the image: a path below `volumes/<name>/` of the store, or a URI."""
    labels: str | None = None
    """OME-Zarr of its ground truth, of the same shape; 0 is what nobody labelled."""
    voxel_size: PositiveSize | None = None
    """Nanometres, where the image's own metadata is wrong."""
    roi: str | None = None
    """What is processed, as slices: '0:160, :, :'. All of it unless given."""
    mask: str | None = None
    """OME-Zarr of integers or booleans, 0 where nothing is to be done: of the image's voxels, or
    coarser by whole numbers. What is outside costs nothing and is background."""
    rois: Annotated[list[str], Field(min_length=1)] | None = None
    """Parts to process, each as slices; what lies in none of them is outside too."""
    block: Shape
    """One partition: the piece that one pod makes in minutes. A multiple of `chunk`."""
    chunk: Shape = (64, 64, 64)
    """Voxels in a chunk of every array made from this volume."""
    pods: PodRequests = {}
    """What the pods of its steps ask for, by step, where a deployment's usual is not right."""

    @model_validator(mode="after")
    def _block_is_made_of_chunks(self) -> "VolumeConfig":
        if any(b % c for b, c in zip(self.block, self.chunk, strict=True)):
            raise ValueError(f"block {self.block} is no multiple of chunk {self.chunk}")
        return self


@dataclass(frozen=True)
class Volume:
    """A volume of the store, opened on demand."""

    store: Store
    name: str
    config: VolumeConfig

    def _locate(self, path: str) -> str:
        relative = "://" not in path and not path.startswith("/")
        # normalised, so that one volume can use the arrays of another: ../other/raw.zarr
        return self.store.path(normpath(f"volumes/{self.name}/{path}")) if relative else path

    @cached_property
    def raw(self) -> ZarrArray:
        """The image."""
        return self._open(self.config.raw)

    @cached_property
    def labels(self) -> ZarrArray | None:
        """The ground truth, if there is one.

        Raises:
            SegError: it has another shape than the image, or is no array of integers.
        """
        if self.config.labels is None:
            return None
        labels = self._open(self.config.labels)
        if labels.box.shape != self.raw.box.shape:
            raise SegError(
                f"volume {self.name}: labels have shape {labels.box.shape}, raw data "
                f"{self.raw.box.shape}; they must cover the same voxels"
            )
        if not integer_dtype(labels.dtype) or labels.channels is not None:
            more = f" in {labels.channels} channels" if labels.channels else ""
            raise SegError(
                f"volume {self.name}: labels must be integers in one channel, found "
                f"{labels.dtype}{more}"
            )
        return labels

    @cached_property
    def mask(self) -> Mask | None:
        """Where something is to be done, None for everywhere.

        Raises:
            SegError: it is no mask of this image, or a ROI reaches outside.
        """
        if self.config.mask is None and self.config.rois is None:
            return None
        array = self._open(self.config.mask, of_image=False) if self.config.mask else None
        try:
            given = self.config.rois
            rois = [parse_box(r, self.raw.box) for r in given] if given else [self.raw.box]
            return make_mask(
                array, self.raw, rois, (self.store, f"volumes/{self.name}/mask-index.json")
            )
        except SegError as error:
            raise SegError(f"volume {self.name}: {error}") from None

    def outside(self, keys: Collection[str] | None = None) -> set[str]:
        """Keys of the blocks (of all unless given) that lie wholly outside the mask."""
        if self.mask is None:
            return set()
        keys = list(self.grid) if keys is None else keys
        found = self.mask.describe({key: self.grid.box(key) for key in keys})
        return {key for key, digest in found.items() if digest == OUTSIDE}

    def _open(self, path: str, of_image: bool = True) -> ZarrArray:
        array = open_array(self._locate(path))
        # the volume's own grid starts at voxel 0 of its arrays, wherever these lie in the world
        return replace(
            array,
            box=Box.of_shape(array.box.shape),
            voxel_size=(of_image and self.config.voxel_size) or array.voxel_size,
        )

    @property
    def voxel_size(self) -> VoxelSize:
        """Nanometres along z, y, x.

        Raises:
            SegError: the metadata holds a size of zero or less.
        """
        size = self.raw.voxel_size
        if min(size) <= 0:
            raise SegError(
                f"volume {self.name}: voxel size {size} nm: every size must be above 0; "
                "set voxel_size in its YAML file"
            )
        return size

    @cached_property
    def roi(self) -> Box:
        """The voxels to process."""
        whole = self.raw.box
        return parse_box(self.config.roi, whole) if self.config.roi else whole

    @cached_property
    def grid(self) -> BlockGrid:
        """The blocks."""
        return BlockGrid(self.roi, self.config.block)


def load_volume(store: Store, name: str) -> Volume:
    """Open a declared volume.

    Raises:
        SegError: it is not declared, or cannot be by this name.
    """
    _check_volume_name(name)
    path = f"volumes/{name}.yaml"
    if not store.exists(path):
        known = ", ".join(volume_names(store)) or "none"
        raise SegError(
            f"no volume {name!r} in {store.uri} (there: {known}); "
            "declare it with: seg volume add FILE"
        )
    return Volume(store, name, parse(VolumeConfig, store.read_bytes(path), store.path(path)))


def volume_names(store: Store) -> list[str]:
    """Every declared volume, sorted."""
    return store.names("volumes", ".yaml")


def add_volume(store: Store, name: str, text: bytes, source: str) -> Volume:
    """Declare a volume, after all of it was checked: fields, arrays, shapes, ROI, mask.

    Raises:
        SegError: something in it is wrong; nothing was written.
    """
    volume = Volume(store, _check_volume_name(name), parse(VolumeConfig, text, source))
    _ = volume.voxel_size, volume.labels, volume.roi, volume.mask  # opening them checks them
    if len(volume.outside()) == len(volume.grid):
        raise SegError(
            f"volume {name}: nothing of {volume.roi}, its ROI, is inside its mask and rois; give "
            "others, or leave them out to process all of it"
        )
    store.write_bytes(f"volumes/{name}.yaml", text)
    return volume


def _check_volume_name(name: str) -> str:
    if name in RESERVED:
        raise SegError(
            f"volume name {name!r}: is reserved for a folder of every run's own; rename the file, "
            f"as in: my-{name}.yaml"
        )
    return check_name("volume", name)
