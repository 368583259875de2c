"""What arrays hold, as digests that are read again only where something was touched."""

from collections.abc import Callable, Iterator

from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box, triple
from seg_core.store import Store
from seg_core.volumes.ome_zarr import ZarrArray
from seg_core.volumes.stamps import chunk_stamps, region_stamp

PIECE = 128  # voxels along an axis that are read at once


def pieces(array: ZarrArray, box: Box) -> Iterator[Box]:
    """The part of a box inside an array, cut along its chunks, in C order."""
    size = [c * max(1, PIECE // c) for c in array.chunk]
    inside = box.clip(array.box)
    begin = [
        low + (b - low) // s * s
        for b, low, s in zip(inside.begin, array.box.begin, size, strict=True)
    ]
    if inside.voxels:
        yield from (tile.clip(inside) for tile in Box(triple(begin), inside.end).tiles(size))


def region_content(array: ZarrArray, box: Box) -> str:
    """A digest of the voxels of a box, wherever they are stored and whenever they were written.

    Raises:
        SegError: a chunk cannot be read.
    """
    return fingerprint([content(array.read(piece)) for piece in pieces(array, box)])


def indexed(index: "Index", array: ZarrArray, box: Box) -> str:
    """As `region_content`, but read only where a chunk of it was touched since.

    Raises:
        SegError: a chunk cannot be read.
    """
    stamp = region_stamp(array, chunk_stamps(array), box)
    return index.digest(f"{box} of {array.uri}", stamp, lambda: region_content(array, box))


class Index:
    """Digests kept in a file with the stamp of what they were read from, like git's index.

    A stamp is taken before the digest is read, so that a change in between is seen next time.
    """

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path
        self._kept: dict[str, list[str]] = store.read_json(path) or {}
        self._changed = False

    def digest(self, name: str, stamp: str, read: Callable[[], str]) -> str:
        """What is kept under a name, if that was read at the same stamp; else it is read."""
        name = name.replace(f"{self.store.uri}/", "")  # a store may be moved
        known = self._kept.get(name)
        if known is None or known[0] != stamp:
            known = self._kept[name] = [stamp, read()]
            self._changed = True
        return known[1]

    def save(self) -> None:
        """Write the file if something was read; of two who write at once, one reads again."""
        if self._changed:
            self.store.write_json(self.path, self._kept)
            self._changed = False
