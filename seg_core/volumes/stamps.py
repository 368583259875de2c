"""When chunks were written last, by a listing: nothing is read."""

import re
from collections.abc import Sequence
from itertools import product
from json.encoder import encode_basestring_ascii

from seg_core.fingerprint import digest
from seg_core.geometry import Box, Triple, triple
from seg_core.remote import open_fs, reaching
from seg_core.volumes.ome_zarr import ZarrArray

# of a digest first: who writes the same bytes again changes nothing
_VERSIONS = ("md5Hash", "generation", "ETag", "mtime")


def chunk_stamps(array: ZarrArray, boxes: Sequence[Box] | None = None) -> dict[Triple, str]:
    """Size and date (on object stores a digest) of stored chunks, by index: a listing.

    A chunk that is not there holds zeros only.

    Args:
        array: whose chunks.
        boxes: what is to be read; chunks that no box reads may be left out. All unless given.
    """
    fs, root = open_fs(array.uri)
    folder = f"{root}/{array.path}"
    stamps: dict[Triple, str] = {}
    with reaching(array.uri):
        folders = [folder]
        # the layout that zarr 3 gives an array by default: a folder for each z
        if boxes is not None and array.channels is None and fs.isdir(f"{folder}/c"):
            folders = [f"{folder}/c/{z}" for z in _planes(array, boxes)]
        files = {path: info for f in folders for path, info in fs.find(f, detail=True).items()}
    for path, info in files.items():
        # zarr 3 names a chunk c/0/0/0, zarr 2 0/0/0 or 0.0.0
        index = re.split("[/.]", path[len(folder) :].strip("/").removeprefix("c/"))
        if all(i.isdigit() for i in index) and len(index) >= 3:
            version = next((info[name] for name in _VERSIONS if info.get(name)), None)
            key = triple([int(i) for i in index[-3:]])
            stamps[key] = f"{stamps.get(key, '')}{info['size']}@{version};"
    return stamps


def _planes(array: ZarrArray, boxes: Sequence[Box]) -> list[int]:
    """Indices along z of the chunks that boxes read."""
    inside = [box.clip(array.box).relative_to(array.box.begin) for box in boxes]
    size = array.chunk[0]
    return sorted(
        {z for box in inside for z in range(box.begin[0] // size, -(-box.end[0] // size))}
    )


def region_stamp(array: ZarrArray, stamps: dict[Triple, str], box: Box) -> str:
    """One stamp for all chunks that a box reads: it changes when one of them was written."""
    inside = box.clip(array.box).relative_to(array.box.begin)
    index = [
        range(b // c, -(-e // c))
        for b, e, c in zip(inside.begin, inside.end, array.chunk, strict=True)
    ]
    # as `fingerprint` would write it, which takes ten times as long: a block reads many chunks
    chunks = [
        f"[{z},{y},{x},{encode_basestring_ascii(stamps.get((z, y, x), ''))}]"
        for z, y, x in product(*index)
    ]
    return digest(f"[[{','.join(chunks)}]]")
