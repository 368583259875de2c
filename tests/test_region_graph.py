"""The edges between fragments: against a naive loop, and put together from parts."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.kernels.region_graph import Edges, Labels, concatenate, edges_between, edges_inside

Offsets = list[tuple[int, int, int]]

shapes = st.tuples(*[st.integers(2, 6)] * 3)
offsets_strategy = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 2, 3, 7])).map(
        lambda of: (of[1] * (of[0] == 0), of[1] * (of[0] == 1), of[1] * (of[0] == 2))
    ),
    min_size=1,
    max_size=5,
)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Labels, NDArray[np.uint8], Offsets]:
    shape, offsets = draw(shapes), draw(offsets_strategy)
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    dtype = draw(st.sampled_from([np.uint32, np.uint64]))
    some = np.array([0, 1, 2, 3, 2**31], dtype)
    if dtype == np.uint64:
        some = np.append(some, np.array([2**63 + 1, 2**64 - 1], dtype))
    affinities = draw(arrays.arrays(np.uint8, (len(offsets), 1, 1, 1)))
    noise = random.integers(0, 256, (len(offsets), *shape)).astype(np.uint8)
    return random.choice(some, shape), affinities + noise, offsets


def slow_edges(labels: Labels, affinities: NDArray[np.uint8], offsets: Offsets) -> Edges:
    found: dict[tuple[int, int], list[int]] = {}
    for channel, offset in zip(affinities, offsets, strict=True):
        for voxel in np.ndindex(labels.shape):
            other = tuple(v + o for v, o in zip(voxel, offset, strict=True))
            if any(o >= s for o, s in zip(other, labels.shape, strict=True)):
                continue
            u, v = sorted((int(labels[voxel]), int(labels[other])))
            direct, value = sum(offset) == 1, int(channel[voxel])
            if u and u != v and (direct or value < 128):
                sums = found.setdefault((u, v), [0, 0, 0, 0])
                sums[0 if direct else 2] += value
                sums[1 if direct else 3] += 1
    ends = np.array(sorted(found), np.uint64).reshape(-1, 2)
    sums = np.array([found[pair] for pair in sorted(found)], np.int64).reshape(-1, 4)
    return Edges(*ends.T, *sums.T)


def assert_same(got: Edges, expected: Edges) -> None:
    assert [str(d) for d in got.to_frame().dtypes] == ["uint64"] * 2 + ["int64"] * 4
    for name, column in expected.to_frame().items():
        np.testing.assert_array_equal(getattr(got, str(name)), column.to_numpy())


@given(volumes())
@settings(max_examples=40, deadline=None)
def test_edges_inside_is_the_naive_loop(
    volume: tuple[Labels, NDArray[np.uint8], Offsets],
) -> None:
    assert_same(edges_inside(*volume), slow_edges(*volume))


@pytest.mark.parametrize("axis", [0, 1, 2])
@given(volume=volumes(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_whole_is_halves_and_face(
    axis: int, volume: tuple[Labels, NDArray[np.uint8], Offsets], data: st.DataObject
) -> None:
    labels, affinities, offsets = volume
    cut = data.draw(st.integers(1, labels.shape[axis] - 1))
    low, high = np.split(labels, [cut], axis)
    low_affinities, high_affinities = np.split(affinities, [cut], axis + 1)
    thick = max(offset[axis] for offset in offsets) or 1

    def slab(array: NDArray[np.uint8] | Labels, along: int, end: bool) -> NDArray[np.uint8]:
        near = slice(-thick, None) if end else slice(0, thick)
        return array[(slice(None),) * along + (near,)]

    face = edges_between(
        slab(low, axis, True),
        slab(low_affinities, axis + 1, True),
        slab(high, axis, False),
        axis,
        offsets,
    )
    halves = [
        edges_inside(low, low_affinities, offsets),
        edges_inside(high, high_affinities, offsets),
    ]
    assert_same(concatenate([face, *halves]), edges_inside(labels, affinities, offsets))


def test_a_worked_example() -> None:
    labels = np.array([[[5, 5, 3, 0, 3, 5]]], np.uint64)
    affinities = np.array([[[[9, 200, 9, 9, 100, 9]]], [[[127, 128, 9, 7, 9, 9]]]], np.uint8)
    edges = edges_inside(labels, affinities, [(0, 0, 1), (0, 0, 2)])
    # direct: voxels 1-2 and 4-5; two apart: 0-2 (127 counts); 1-3 and 3-5 meet background
    assert edges.to_frame().to_numpy().tolist() == [[3, 5, 300, 2, 127, 1]]


def test_many_fragments() -> None:
    labels = np.arange(1, 27_001, dtype=np.uint64).reshape(30, 30, 30) << np.uint64(40)
    affinities = np.random.default_rng(0).integers(0, 256, (3, *labels.shape)).astype(np.uint8)
    edges = edges_inside(labels, affinities, [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    assert len(edges) == 3 * 29 * 30 * 30
    assert (np.diff(edges.u.astype(np.int64)) >= 0).all()
    total = affinities[0, :-1].sum() + affinities[1, :, :-1].sum() + affinities[2, :, :, :-1].sum()
    assert edges.attract_sum.sum() == total


def test_no_edges() -> None:
    assert len(Edges.empty()) == len(concatenate([])) == len(concatenate([Edges.empty()])) == 0
    nothing = edges_inside(
        np.ones((2, 2, 2), np.uint64), np.ones((1, 2, 2, 2), np.uint8), [(1, 0, 0)]
    )
    assert_same(nothing, Edges.empty())


def test_frame_and_back() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (4, 4, 4)).astype(np.uint64)
    edges = edges_inside(labels, np.full((1, 4, 4, 4), 7, np.uint8), [(1, 0, 0)])
    assert_same(Edges.from_frame(edges.to_frame()), edges)


@pytest.mark.parametrize("offset", [(0, 0, 0), (1, 1, 0), (-1, 0, 0)])
def test_other_offsets_are_refused(offset: tuple[int, int, int]) -> None:
    labels, affinities = np.ones((2, 2, 2), np.uint64), np.ones((1, 2, 2, 2), np.uint8)
    with pytest.raises(SegError, match="one positive entry"):
        edges_inside(labels, affinities, [offset])


def test_arrays_that_do_not_fit_are_refused() -> None:
    labels, affinities = np.ones((2, 2, 2), np.uint64), np.ones((1, 2, 2, 2), np.uint8)
    with pytest.raises(SegError, match="do not fit"):
        edges_inside(labels, affinities, [(1, 0, 0), (0, 1, 0)])
    with pytest.raises(SegError, match="one face"):
        edges_between(labels, affinities, labels[:, :1], 0, [(1, 0, 0)])
