"""Digests of regions: of the voxels alone, and read again only where something was touched."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_core.fingerprint import fingerprint
from seg_core.geometry import Box, triple
from seg_core.store import Store
from seg_core.volumes.contents import Index, pieces, region_content
from seg_core.volumes.ome_zarr import ZarrArray, create
from seg_core.volumes.stamps import region_stamp

ends = st.tuples(st.integers(-5, 40), st.integers(1, 300))


@pytest.mark.timed
@given(
    axes=st.tuples(ends, ends, ends),
    chunk=st.tuples(st.integers(1, 70), st.integers(1, 300), st.integers(30, 90)),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200)),
)
def test_pieces_cover_a_region_once_and_cut_no_chunk_needlessly(
    axes: tuple[tuple[int, int], ...], chunk: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    box = Box(triple([b for b, _ in axes]), triple([b + n for b, n in axes]))
    array = ZarrArray("nowhere", Box.of_shape(shape), None, "uint8", (1.0, 1.0, 1.0), chunk)
    found, inside = list(pieces(array, box)), box.clip(array.box)
    assert sum(piece.voxels for piece in found) == inside.voxels
    for piece in found:
        assert inside.contains(piece)
        assert piece.voxels
        for axis in range(3):
            for end in (piece.begin[axis], piece.end[axis]):
                at_an_edge = end in (inside.begin[axis], inside.end[axis])
                assert at_an_edge or end % chunk[axis] == 0


def test_a_digest_is_of_the_voxels_of_the_region_alone(tmp_path: Path) -> None:
    box, chunk = Box.of_shape((20, 20, 20)), (8, 8, 8)
    array = create(ZarrArray(f"{tmp_path}/a.zarr", box, None, "uint16", (1.0, 1.0, 1.0), chunk))
    data = np.random.default_rng(0).integers(0, 999, box.shape).astype(np.uint16)
    array.write(box, data)
    region = Box((3, 0, 5), (25, 11, 20))
    first = region_content(array, region)
    array.write(box, data)
    assert region_content(array, region) == first
    data[2, 10, 10] += 1  # of a chunk that the region reads, but outside
    array.write(box, data)
    assert region_content(array, region) == first
    data[3, 10, 19] += 1
    array.write(box, data)
    assert region_content(array, region) != first


def test_a_stamp_is_a_fingerprint_of_the_chunks_that_a_box_reads() -> None:
    array = ZarrArray("nowhere", Box.of_shape((9, 9, 9)), None, "uint8", (1.0, 1.0, 1.0), (4, 4, 4))
    stamps = {(0, 0, 1): '7@"a\\b"é;', (1, 0, 1): "8@1.5;", (2, 2, 2): "9@2;"}
    chunks = [[0, 0, 1, stamps[0, 0, 1]], [0, 1, 1, ""], [1, 0, 1, stamps[1, 0, 1]], [1, 1, 1, ""]]
    assert region_stamp(array, stamps, Box((0, 0, 4), (5, 5, 6))) == fingerprint(chunks)


def test_an_index_reads_again_what_has_another_stamp(tmp_path: Path) -> None:
    store, read = Store(str(tmp_path)), []

    def digest(stamp: str) -> str:
        index = Index(store, "index.json")
        found = index.digest("raw", stamp, lambda: read.append(stamp) or f"content of {stamp}")
        index.save()
        return found

    assert [digest(s) for s in ("a", "a", "b", "b", "a")] == [
        f"content of {s}" for s in ("a", "a", "b", "b", "a")
    ]
    assert read == ["a", "b", "a"]
