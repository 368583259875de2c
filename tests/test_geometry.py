"""Boxes, slices as users write them, and the grid of blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_core.errors import SegError
from seg_core.geometry import BlockGrid, Box, Triple, block_key, parse_box, triple

BOX = Box((2, 0, 10), (6, 5, 30))

lengths = st.tuples(*[st.integers(1, 9)] * 3)
begins = st.tuples(*[st.integers(-5, 5)] * 3)


def test_three_numbers_are_a_triple_of_integers() -> None:
    assert triple(np.array([3, 0, 7], np.uint8)) == (3, 0, 7)
    assert all(type(value) is int for value in triple(np.array([3, 0, 7])))
    with pytest.raises(ValueError, match="unpack"):
        triple([1, 2])


def test_a_box_by_hand() -> None:
    assert BOX.shape == (4, 5, 20)
    assert BOX.voxels == 400
    assert str(BOX) == "2:6, 0:5, 10:30"
    assert BOX.slices == (slice(2, 6), slice(0, 5), slice(10, 30))
    assert Box.of_shape((4, 5, 20), (2, 0, 10)) == BOX
    assert Box.of_shape((4, 5, 6)) == Box((0, 0, 0), (4, 5, 6))
    assert BOX.shift((1, -1, 0)) == Box((3, -1, 10), (7, 4, 30))
    assert BOX.relative_to((2, 0, 10)) == Box.of_shape((4, 5, 20))
    assert BOX.grow((1, 0, 2)) == Box((1, 0, 8), (7, 5, 32))
    assert BOX.grow((0, 0, 0), (1, 2, 3)) == Box((2, 0, 10), (7, 7, 33))
    assert BOX.grow((-1, -1, -1)) == Box((3, 1, 11), (5, 4, 29))


def test_an_axis_without_voxels_leaves_none() -> None:
    assert Box((0, 3, 0), (5, 3, 5)).voxels == 0
    assert Box((0, 4, 4), (5, 3, 3)).voxels == 0  # not 5 * -1 * -1


def test_the_part_of_a_box_inside_another() -> None:
    other = Box((0, 2, 20), (4, 9, 25))
    assert BOX.clip(other) == Box((2, 2, 20), (4, 5, 25))
    assert BOX.clip(BOX) == BOX
    apart = BOX.clip(Box((6, 0, 10), (8, 5, 30)))
    assert apart.voxels == 0
    assert min(apart.shape) == 0
    assert BOX.clip(Box((90, 90, 90), (95, 95, 95))).shape == (0, 0, 0)


def test_a_box_contains_what_does_not_reach_outside() -> None:
    assert BOX.contains(BOX)
    assert BOX.contains(Box((3, 1, 11), (4, 2, 12)))
    assert not BOX.contains(BOX.grow((0, 0, 0), (0, 0, 1)))
    assert not BOX.contains(BOX.grow((0, 1, 0), (0, 0, 0)))
    assert not BOX.contains(BOX.shift((10, 10, 10)))


@given(begin=begins, shape=lengths, tile=lengths)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_tiles_cover_every_voxel_once(begin: Triple, shape: Triple, tile: Triple) -> None:
    box = Box.of_shape(shape, begin)
    seen = np.zeros(shape, int)
    found = list(box.tiles(tile))
    for piece in found:
        assert all(0 < n <= most for n, most in zip(piece.shape, tile, strict=True))
        seen[piece.relative_to(begin).slices] += 1
    np.testing.assert_array_equal(seen, 1)
    assert found == sorted(found)  # in C order


def test_tiles_by_hand() -> None:
    pieces = list(Box((1, 0, 4), (3, 2, 9)).tiles((5, 2, 3)))
    assert pieces == [Box((1, 0, 4), (3, 2, 7)), Box((1, 0, 7), (3, 2, 9))]
    assert list(Box((1, 1, 1), (1, 4, 4)).tiles((2, 2, 2))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:4, :, 20:-20", Box((0, 0, 20), (4, 50, 40))),
        (":,:,:", Box((0, 0, 0), (10, 50, 60))),
        ("-4:, :-1, -30:-29", Box((6, 0, 30), (10, 49, 31))),
        ("  3 : 10 ,0:50,0:60 ", Box((3, 0, 0), (10, 50, 60))),
    ],
)
def test_slices_are_read_as_numpy_reads_them(text: str, expected: Box) -> None:
    assert parse_box(text, Box.of_shape((10, 50, 60))) == expected


def test_slices_of_a_box_that_does_not_begin_at_0() -> None:
    assert parse_box(":, 1:, :-5", BOX) == Box((2, 1, 10), (6, 5, 25))
    with pytest.raises(SegError, match="reaches outside the volume, which is 2:6, 0:5, 10:30"):
        parse_box("0:4, :, :", BOX)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected three slices"),
        ("0:4", "expected three slices"),
        ("0:4, :, :, :", "expected three slices"),
        ("0:4, :, 7", "expected three slices"),
        ("0:4:2, :, :", "expected three slices"),
        ("0:4, :, a:b", "expected three slices"),
        ("0:4, :, 1.5:3", "expected three slices"),
        ("-:4, :, :", "expected three slices"),
        ("0:-, :, :", "expected three slices"),
        ("0:11, :, :", "reaches outside"),
        ("-11:, :, :", "reaches outside"),
        ("4:4, :, :", "is empty"),
        ("5:4, :, :", "is empty"),
        (":, -3:-3, :", "is empty"),
        (":, :, 60:", "is empty"),
    ],
)
def test_wrong_slices_are_named(text: str, words: str) -> None:
    with pytest.raises(SegError, match=words) as refused:
        parse_box(text, Box.of_shape((10, 50, 60)))
    assert repr(text) in str(refused.value)


GRID = BlockGrid(Box((1, 0, 2), (6, 4, 12)), (3, 4, 4))


def test_blocks_are_in_c_order_and_cut_at_the_end() -> None:
    assert GRID.counts == (2, 1, 3)
    assert len(GRID) == 6
    assert list(GRID) == [
        "z0000y0000x0000",
        "z0000y0000x0001",
        "z0000y0000x0002",
        "z0001y0000x0000",
        "z0001y0000x0001",
        "z0001y0000x0002",
    ]
    assert list(GRID) == list(GRID)  # it can be gone through again
    assert GRID.box("z0000y0000x0000") == Box((1, 0, 2), (4, 4, 6))
    assert GRID.box("z0001y0000x0002") == Box((4, 0, 10), (6, 4, 12))
    assert GRID.index("z0001y0000x0002") == (1, 0, 2)


def test_the_neighbour_across_the_high_face() -> None:
    assert GRID.next_along("z0000y0000x0000", 0) == "z0001y0000x0000"
    assert GRID.next_along("z0000y0000x0000", 1) is None
    assert GRID.next_along("z0000y0000x0001", 2) == "z0000y0000x0002"
    assert GRID.next_along("z0000y0000x0002", 2) is None
    assert GRID.next_along("z0001y0000x0000", 0) is None


@given(begin=begins, shape=lengths, block=lengths)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_blocks_cover_every_voxel_once(begin: Triple, shape: Triple, block: Triple) -> None:
    grid = BlockGrid(Box.of_shape(shape, begin), block)
    keys = list(grid)
    assert len(keys) == len(set(keys)) == len(grid)
    assert keys == sorted(keys)
    assert [grid.box(key) for key in keys] == list(grid.roi.tiles(block))
    for key in keys:
        assert block_key(grid.index(key)) == key
        for axis in range(3):
            after, box = grid.next_along(key, axis), grid.box(key)
            if after is None:
                assert box.end[axis] == grid.roi.end[axis]
            else:
                assert grid.box(after).begin[axis] == box.end[axis]


@pytest.mark.parametrize(
    "key",
    [
        "z0002y0000x0000",
        "z0000y0001x0000",
        "z0000y0000x0003",
        "",
        "z0000y0000",
        "y0000z0000x0000",
        "z0000y0000x0000 ",
        "z-001y0000x0000",
        "z0y0x0",  # one block has one key
        "z00000y0000x0000",
        "z\u0660\u0660\u0660\u0660y0000x0000",
    ],
)
def test_a_key_of_no_block_is_refused(key: str) -> None:
    for ask in (GRID.index, GRID.box, lambda k: GRID.next_along(k, 2)):
        with pytest.raises(SegError) as refused:
            ask(key)
        assert str(refused.value) == (
            f"no block {key!r}: this volume's blocks are z0000y0000x0000 to z0001y0000x0002"
        )


def test_more_than_ten_thousand_blocks_along_an_axis() -> None:
    grid = BlockGrid(Box.of_shape((1, 1, 10_002)), (1, 1, 1))
    assert block_key((0, 0, 10_001)) == "z0000y0000x10001"
    assert grid.index("z0000y0000x10001") == (0, 0, 10_001)
    assert grid.next_along("z0000y0000x9999", 2) == "z0000y0000x10000"
