"""Boxes of voxels, and the grid of blocks that a volume is cut into.

Everything is in voxels of one volume, axes z, y, x; a volume's metadata holds its voxel size in
nanometres. Whole numbers of voxels keep neighbouring blocks exactly adjacent, which nanometres
(50 x 4.6 x 4.6) would not.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from seg_core.errors import SegError

Triple = tuple[int, int, int]

AXES = "zyx"
_KEY = re.compile(r"z(\d{4,})y(\d{4,})x(\d{4,})", re.ASCII)


def triple(values: Sequence[int]) -> Triple:
    """Three integers as a tuple."""
    z, y, x = values
    return int(z), int(y), int(x)


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of voxels: `begin` is inside, `end` is not."""

    begin: Triple
    end: Triple

    @classmethod
    def of_shape(cls, shape: Sequence[int], begin: Sequence[int] = (0, 0, 0)) -> "Box":
        """The box of `shape` that starts at `begin`."""
        start = triple(begin)
        return cls(start, triple([b + s for b, s in zip(start, shape, strict=True)]))

    @property
    def shape(self) -> Triple:
        """Voxels along each axis."""
        return triple([e - b for b, e in zip(self.begin, self.end, strict=True)])

    @property
    def voxels(self) -> int:
        """Number of voxels, 0 where the box is empty along an axis."""
        z, y, x = (max(0, s) for s in self.shape)
        return z * y * x

    def grow(self, low: Sequence[int], high: Sequence[int] | None = None) -> "Box":
        """The box with `low` voxels more before each axis' begin and `high` (or `low`) after it."""
        after = low if high is None else high
        return Box(
            triple([b - g for b, g in zip(self.begin, low, strict=True)]),
            triple([e + g for e, g in zip(self.end, after, strict=True)]),
        )

    def clip(self, other: "Box") -> "Box":
        """The part of the box inside `other` (empty where they do not meet)."""
        begin = triple([max(a, b) for a, b in zip(self.begin, other.begin, strict=True)])
        end = [min(a, b) for a, b in zip(self.end, other.end, strict=True)]
        return Box(begin, triple([max(b, e) for b, e in zip(begin, end, strict=True)]))

    def contains(self, other: "Box") -> bool:
        """Whether `other` lies wholly inside."""
        return self.clip(other) == other

    def shift(self, by: Sequence[int]) -> "Box":
        """The box moved by `by` voxels."""
        return Box(
            triple([b + s for b, s in zip(self.begin, by, strict=True)]),
            triple([e + s for e, s in zip(self.end, by, strict=True)]),
        )

    def relative_to(self, origin: Sequence[int]) -> "Box":
        """The same box seen from `origin`."""
        return self.shift([-o for o in origin])

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box in an array that starts at voxel 0."""
        z, y, x = (slice(b, e) for b, e in zip(self.begin, self.end, strict=True))
        return z, y, x

    def tiles(self, shape: Sequence[int]) -> Iterator["Box"]:
        """Cut the box into pieces of `shape` from its begin, in C order; the last ones are cut."""
        for begin in product(*(range(b, e, s) for b, e, s in self._spans(shape))):
            yield Box.of_shape(shape, begin).clip(self)

    def _spans(self, shape: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        yield from zip(self.begin, self.end, shape, strict=True)

    def __str__(self) -> str:
        return ", ".join(f"{b}:{e}" for b, e in zip(self.begin, self.end, strict=True))


def parse_box(text: str, inside: Box) -> Box:
    """Read slices in voxels, like `0:160, :, 20:-20`, as a box inside `inside`.

    Raises:
        SegError: three slices are not given, or they reach outside `inside` or hold no voxel.
    """
    parts = [part.strip() for part in text.split(",")]
    bounds = [re.fullmatch(r"(-?\d+)?\s*:\s*(-?\d+)?", part) for part in parts]
    if len(parts) != 3 or not all(bounds):
        raise SegError(f"ROI {text!r}: expected three slices in voxels, z, y, x, as in '0:160,:,:'")
    begin, end = [], []
    for match, low, high in zip(bounds, inside.begin, inside.end, strict=True):
        assert match is not None
        first, last = (int(group) if group else None for group in match.groups())
        begin.append(low if first is None else first if first >= 0 else high + first)
        end.append(high if last is None else last if last >= 0 else high + last)
    box = Box(triple(begin), triple(end))
    if min(box.shape) <= 0 or not inside.contains(box):
        raise SegError(f"ROI {text!r}: is empty or reaches outside the volume, which is {inside}")
    return box


@dataclass(frozen=True)
class BlockGrid:
    """An ROI cut into blocks of `block` voxels from its begin; edge blocks are cut at its end."""

    roi: Box
    block: Triple

    @cached_property
    def counts(self) -> Triple:
        """Blocks along each axis."""
        return triple([-(-s // b) for s, b in zip(self.roi.shape, self.block, strict=True)])

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __iter__(self) -> Iterator[str]:
        """Every block's key, `z0003y0000x0012`, in C order."""
        return (block_key(index) for index in product(*map(range, self.counts)))

    def index(self, key: str) -> Triple:
        """Position of a block in the grid.

        Raises:
            SegError: the grid has no such block.
        """
        match = _KEY.fullmatch(key)
        index = triple([int(group) for group in match.groups()]) if match else (-1, -1, -1)
        inside = all(0 <= i < n for i, n in zip(index, self.counts, strict=True))
        # one block has one key: records and files are named by it
        if not inside or block_key(index) != key:
            last = block_key(triple([n - 1 for n in self.counts]))
            raise SegError(f"no block {key!r}: this volume's blocks are z0000y0000x0000 to {last}")
        return index

    def box(self, key: str) -> Box:
        """The voxels of a block."""
        begin = [
            o + i * b for o, i, b in zip(self.roi.begin, self.index(key), self.block, strict=True)
        ]
        return Box.of_shape(self.block, begin).clip(self.roi)

    def next_along(self, key: str, axis: int) -> str | None:
        """The neighbour across the block's high face, or None at the end of the ROI."""
        index = list(self.index(key))
        index[axis] += 1
        return block_key(triple(index)) if index[axis] < self.counts[axis] else None


def block_key(index: Sequence[int]) -> str:
    """The key of the block at a position of the grid."""
    z, y, x = index
    return f"z{z:04d}y{y:04d}x{x:04d}"
