"""Where something is to be done in a volume: in a mask, in a list of ROIs, or in both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box, Triple, triple
from seg_core.store import Store
from seg_core.volumes.contents import PIECE, Index, pieces
from seg_core.volumes.ome_zarr import ZarrArray, integer_dtype
from seg_core.volumes.stamps import chunk_stamps, region_stamp

INSIDE, OUTSIDE = "", "outside"


@dataclass(frozen=True)
class Mask:
    """What of a volume is inside; all else is background in every result.

    Attributes:
        array: integers or booleans (z, y, x), 0 where nothing is to be done; None for none.
        factor: voxels of the volume in one of the array, along each axis.
        rois: of these voxels at least one must hold a voxel that is inside.
        index: store and path of a file that keeps what regions were found to hold.
    """

    array: ZarrArray | None
    factor: Triple
    rois: tuple[Box, ...]
    index: tuple[Store, str]

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Whether each voxel of a box is inside, (z, y, x)."""
        inside = np.zeros(box.shape, bool)
        for roi in self.rois:
            inside[roi.clip(box).relative_to(box.begin).slices] = True
        if self.array is not None:
            coarse = self._coarse(box)
            index = [
                np.arange(b, e) // f - low
                for b, e, f, low in zip(box.begin, box.end, self.factor, coarse.begin, strict=True)
            ]
            inside &= (self.array.read(coarse) != 0)[np.ix_(*index)]
        return inside

    def _coarse(self, box: Box) -> Box:
        """The array's voxels that a box touches."""
        begin = [b // f for b, f in zip(box.begin, self.factor, strict=True)]
        end = [-(-e // f) for e, f in zip(box.end, self.factor, strict=True)]
        return Box(triple(begin), triple(end))

    def describe(self, regions: Mapping[str, Box]) -> dict[str, str]:
        """For each region INSIDE where all of it is, OUTSIDE where nothing is, else a digest.

        An array is read only where it was touched since it was last described.
        """
        if self.array is None:
            return {name: self._digest(box) for name, box in regions.items()}
        stamps, index = chunk_stamps(self.array), Index(*self.index)
        found = {}
        for name, box in regions.items():
            of_array = region_stamp(self.array, stamps, self._coarse(box))
            stamp = fingerprint(self.array.uri, self.factor, of_array, self._clipped(box))
            found[name] = index.digest(str(box), stamp, lambda box=box: self._digest(box))  # type: ignore[misc]
        index.save()
        return found

    def _clipped(self, box: Box) -> list[str]:
        clipped = {str(roi.clip(box)) for roi in self.rois if roi.clip(box).voxels}
        return sorted(clipped)

    def _digest(self, box: Box) -> str:
        if not (clipped := self._clipped(box)):
            return OUTSIDE
        by_rois = INSIDE if str(box) in clipped else fingerprint(clipped)
        by_array = INSIDE if self.array is None else self._digest_array(self.array, box)
        if not by_rois or by_array == OUTSIDE:
            return by_array
        if not by_array:
            return by_rois
        meet = any(self.read(tile).any() for tile in box.tiles([PIECE] * 3))
        return fingerprint(by_rois, by_array) if meet else OUTSIDE

    def _digest_array(self, array: ZarrArray, box: Box) -> str:
        some, every, digests = False, True, []
        for piece in pieces(array, self._coarse(box)):
            inside = array.read(piece) != 0
            some, every = some or bool(inside.any()), every and bool(inside.all())
            digests.append(content(inside))
        if every or not some:
            return INSIDE if every else OUTSIDE
        return fingerprint(digests, self.factor)


def make_mask(
    array: ZarrArray | None, raw: ZarrArray, rois: Sequence[Box], index: tuple[Store, str]
) -> Mask:
    """A mask over an image.

    Raises:
        SegError: the array is none of integers, or does not cover the same extent.
    """
    if array is None:
        return Mask(None, (1, 1, 1), tuple(rois), index)
    if array.channels is not None or not (integer_dtype(array.dtype) or array.dtype == "bool"):
        more = f" in {array.channels} channels" if array.channels else ""
        raise SegError(
            f"{array.uri}: a mask holds integers or booleans in one channel, found "
            f"{array.dtype}{more}"
        )
    return Mask(array, _factor(array, raw), tuple(rois), index)


def _factor(array: ZarrArray, raw: ZarrArray) -> Triple:
    """Voxels of the image in one of the mask: by their sizes, which must agree with the shapes."""
    if array.box.shape == raw.box.shape:
        return (1, 1, 1)
    ratios = [m / r for m, r in zip(array.voxel_size, raw.voxel_size, strict=True)]
    factor = [max(1, round(ratio)) for ratio in ratios]
    shape = [-(-n // f) for n, f in zip(raw.box.shape, factor, strict=True)]
    whole = all(abs(r - f) <= 0.01 * f for r, f in zip(ratios, factor, strict=True))
    if not whole or list(array.box.shape) != shape:
        raise SegError(
            f"{array.uri}: the mask has {array.box.shape} voxels of {array.voxel_size} nm, the raw "
            f"data {raw.box.shape} of {raw.voxel_size} nm; expected the same voxels, or coarser "
            "ones by a whole number along each axis, over the same extent"
        )
    return triple(factor)


def kept(mask: Mask, box: Box, within: Box, offsets: Iterable[Sequence[int]]) -> NDArray[np.bool_]:
    """Which values of a box stay, (c, z, y, x), or (1, z, y, x) without offsets.

    A value stays where its voxel is inside, and that of an affinity where its neighbour is too:
    no affinity leads over the border. Beyond `within` there is no border.
    """
    neighbours = [triple(offset) for offset in offsets]
    reach = [max((o[axis] for o in neighbours), default=0) for axis in range(3)]
    wide = box.grow([0] * 3, reach)
    inside = np.ones(wide.shape, bool)
    known = wide.clip(within)
    inside[known.relative_to(wide.begin).slices] = mask.read(known)
    here = inside[Box.of_shape(box.shape).slices]
    there = [inside[Box.of_shape(box.shape, offset).slices] for offset in neighbours]
    return np.stack([here & other for other in there] or [here])
