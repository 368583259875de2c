"""Agglomeration, against an implementation that scores every pair anew for each merge."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.kernels.agglomeration import agglomerate
from seg_core.kernels.region_graph import Edges

Row = tuple[int, int, int, int, int, int]
Pairs = dict[tuple[int, int], list[int]]


def edges_of(rows: list[Row]) -> Edges:
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    return Edges(*columns[:2].astype(np.uint64), *columns[2:])


def sizes_of(*sizes: int) -> NDArray[np.int64]:
    return np.array([0, *sizes], np.int64)


class Slow:
    """Clusters by their smallest node; pairs of them with their summed edge."""

    def __init__(self, sizes: NDArray[np.int64], edges: Edges) -> None:
        self.sizes = dict(enumerate(sizes.tolist()))
        self.roots = list(range(len(sizes)))
        rows = edges.to_frame().to_numpy().tolist()
        self.pairs: Pairs = {(int(u), int(v)): list(map(int, sums)) for u, v, *sums in rows}

    def merge(self, keep: int, gone: int) -> None:
        self.sizes[keep] += self.sizes.pop(gone)
        self.roots = [keep if root == gone else root for root in self.roots]
        pairs: Pairs = {}
        for pair, sums in self.pairs.items():
            u, v = sorted(keep if node == gone else node for node in pair)
            if u != v:
                before = pairs.get((u, v), [0, 0, 0, 0])
                pairs[u, v] = [a + b for a, b in zip(before, sums, strict=True)]
        self.pairs = pairs

    def score(self, pair: tuple[int, int], penalty: float, repulsion: float) -> float:
        attract, direct, repel, long = self.pairs[pair]
        if direct == 0:
            return -math.inf
        mean = (attract + repulsion * repel) / (255 * (direct + repulsion * long))
        size = max(1, min(self.sizes[pair[0]], self.sizes[pair[1]]))
        return mean - penalty * math.log10(size / 1000)

    def run(self, threshold: float, penalty: float, repulsion: float, min_size: int) -> list[int]:
        while self.pairs:
            scores = {pair: self.score(pair, penalty, repulsion) for pair in self.pairs}
            best = min(scores, key=lambda pair: (-scores[pair], pair))
            if not scores[best] > threshold:
                break
            self.merge(*best)
        while small := self.small(min_size):
            self.merge(*small)
        return self.roots

    def small(self, min_size: int) -> tuple[int, int] | None:
        for size, node in sorted((size, node) for node, size in self.sizes.items() if node):
            near = [
                (-sums[0] / sums[1], sum(pair) - node, pair)
                for pair, sums in self.pairs.items()
                if node in pair and sums[1]
            ]
            if size < min_size and near:
                return min(near)[2]
        return None


@st.composite
def graphs(draw: st.DrawFn) -> tuple[NDArray[np.int64], list[Row]]:
    nodes = draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    pairs = list(combinations(range(1, nodes + 1), 2))
    density, levels = draw(st.sampled_from([0.3, 0.7])), draw(st.sampled_from([2, 4, 256]))
    rows: list[Row] = []
    for u, v in pairs:
        if random.random() < density:
            direct, long = random.integers(0, 4, 2)
            affinities = random.integers(0, levels, 2) * (255 // (levels - 1))
            rows.append((u, v, direct * affinities[0], direct, long * (affinities[1] // 2), long))
    sizes = random.choice(draw(st.sampled_from([[500], [1, 10, 800, 5000]])), nodes)
    return sizes_of(*sizes), rows


@given(
    graph=graphs(),
    threshold=st.sampled_from([-1.0, 0.0, 0.3, 0.5, 0.9]),
    penalty=st.sampled_from([0.0, 0.2, 0.5]),
    repulsion=st.sampled_from([0.0, 0.5, 1.0]),
    min_size=st.sampled_from([0, 600, 3000]),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_merges_like_the_slow_one(
    graph: tuple[NDArray[np.int64], list[Row]],
    threshold: float,
    penalty: float,
    repulsion: float,
    min_size: int,
    data: st.DataObject,
) -> None:
    sizes, rows = graph
    nodes = len(sizes) - 1
    expected = Slow(sizes, edges_of(rows)).run(threshold, penalty, repulsion, min_size)
    shuffled = edges_of(data.draw(st.permutations(rows)))
    for edges in (edges_of(rows), shuffled):
        roots = agglomerate(nodes, sizes, edges, threshold, penalty, repulsion, min_size)
        assert roots.dtype == np.uint64
        assert roots.tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_larger_graphs_full_of_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    chosen = [pair for pair in combinations(range(1, 91), 2) if random.random() < 0.15]
    rows: list[Row] = [
        (u, v, 255 * int(random.integers(0, 3)), 2, 51 * int(random.integers(0, 3)), 2)
        for u, v in chosen
    ]
    sizes = sizes_of(*random.choice([200, 2000], 90))
    for rule in [(0.4, 0.0, 0.0, 0), (0.2, 0.1, 1.0, 3000), (0.6, 0.0, 0.5, 1000)]:
        expected = Slow(sizes, edges_of(rows)).run(*rule)
        assert agglomerate(90, sizes, edges_of(rows), *rule).tolist() == expected


def test_edges_that_move_often() -> None:
    # siblings of a binary tree merge level by level, so that the other edges move each time
    random = np.random.default_rng(0)
    found = {pair: (1, 0) for pair in combinations(range(1, 257), 2) if random.random() < 0.022}
    for level in range(6):
        step = 2**level
        found |= {(n, n + step): (1000, 240 - 20 * level) for n in range(1, 257, 2 * step)}
    rows: list[Row] = [(*pair, n * value, n, 0, 0) for pair, (n, value) in sorted(found.items())]
    sizes = sizes_of(*[1] * 256)
    expected = Slow(sizes, edges_of(rows)).run(0.3, 0.0, 0.0, 0)
    assert len(set(expected)) == 5
    assert agglomerate(256, sizes, edges_of(rows), 0.3).tolist() == expected


def test_average_linkage() -> None:
    # 1-2 merge first at 0.9; the mean of both with 3 is then (0.8 + 2 * 0.2) / 3 = 0.4
    rows: list[Row] = [
        (1, 2, 9 * 255, 10, 0, 0),
        (1, 3, 8 * 255, 10, 0, 0),
        (2, 3, 4 * 255, 20, 0, 0),
    ]
    sizes = sizes_of(1, 1, 1)
    assert agglomerate(3, sizes, edges_of(rows), 0.5).tolist() == [0, 1, 1, 3]
    assert agglomerate(3, sizes, edges_of(rows), 0.39).tolist() == [0, 1, 1, 1]
    # the threshold itself is not enough
    assert agglomerate(3, sizes, edges_of(rows[:1]), 0.9).tolist() == [0, 1, 2, 3]


def test_size_penalty() -> None:
    # both means are 0.5: 1-2 score 0.1 less for 10 000 voxels, 2-3 score 0.1 more for 100
    rows: list[Row] = [(1, 2, 255, 2, 0, 0), (2, 3, 255, 2, 0, 0)]
    sizes = sizes_of(10_000, 10_000, 100)
    assert agglomerate(3, sizes, edges_of(rows), 0.55, size_penalty=0.1).tolist() == [0, 1, 2, 2]
    assert agglomerate(3, sizes, edges_of(rows), 0.39, size_penalty=0.1).tolist() == [0, 1, 1, 1]
    assert agglomerate(3, sizes, edges_of(rows), 0.41, size_penalty=0.1).tolist() == [0, 1, 2, 2]


def test_repulsion() -> None:
    # direct 0.8 over 10 pairs, long 0.2 over 10: 0.8 without repulsion, 0.5 with 1, 0.6 with 0.5
    rows: list[Row] = [(1, 2, 2040, 10, 510, 10)]
    sizes = sizes_of(5, 5)
    for repulsion, score in [(0.0, 0.8), (0.5, 0.6), (1.0, 0.5)]:
        below = agglomerate(2, sizes, edges_of(rows), score - 0.01, repulsion=repulsion)
        above = agglomerate(2, sizes, edges_of(rows), score + 0.01, repulsion=repulsion)
        assert (below.tolist(), above.tolist()) == ([0, 1, 1], [0, 1, 2])


def test_repulsion_without_contact_adds_up() -> None:
    # 1 and 3 do not touch, but repel; after 1-2 merge this keeps 3 away: (204 + 0) / (255 * 4)
    rows: list[Row] = [(1, 2, 255, 1, 0, 0), (1, 3, 0, 0, 0, 3), (2, 3, 204, 1, 0, 0)]
    sizes = sizes_of(5, 5, 5)
    assert agglomerate(3, sizes, edges_of(rows), 0.3, repulsion=1.0).tolist() == [0, 1, 1, 3]
    assert agglomerate(3, sizes, edges_of(rows), 0.3, repulsion=0.0).tolist() == [0, 1, 1, 1]
    alone: list[Row] = [(1, 2, 0, 0, 300, 3)]
    assert agglomerate(2, sizes[:3], edges_of(alone), -9.0, 0.0, 1.0, 100).tolist() == [0, 1, 2]


def test_min_size() -> None:
    # 4 (2 voxels) joins 3 (3 voxels) at mean 0, together 5 are still < 6 and join 2 rather than 1
    rows: list[Row] = [(1, 3, 10, 1, 0, 0), (2, 3, 60, 2, 0, 0), (3, 4, 0, 1, 0, 0)]
    sizes = sizes_of(100, 100, 3, 2, 1)
    found = agglomerate(5, sizes, edges_of(rows), 0.5, min_size=6)
    assert found.tolist() == [0, 1, 2, 2, 2, 5]
    assert agglomerate(5, sizes, edges_of(rows), 0.5, min_size=3).tolist() == [0, 1, 2, 3, 3, 5]


def test_equal_scores_go_by_id() -> None:
    # a ring of equals above a repulsive diagonal: 1-2 goes first, then 1-3 with 1's repulsion of 4
    rows: list[Row] = [
        (1, 2, 255, 1, 0, 0),
        (1, 4, 0, 0, 0, 9),
        (2, 3, 255, 1, 0, 0),
        (3, 4, 255, 1, 0, 0),
    ]
    found = agglomerate(4, sizes_of(1, 1, 1, 1), edges_of(rows), 0.5, repulsion=1.0)
    assert found.tolist() == [0, 1, 1, 1, 4]


def test_no_nodes_and_no_edges() -> None:
    assert agglomerate(0, sizes_of(), Edges.empty(), 0.5).tolist() == [0]
    assert agglomerate(2, sizes_of(1, 1), Edges.empty(), 0.5, min_size=9).tolist() == [0, 1, 2]


def test_input_that_does_not_fit_is_refused() -> None:
    edges = edges_of([(1, 2, 1, 1, 0, 0)])
    with pytest.raises(SegError, match="outside nodes"):
        agglomerate(1, sizes_of(1), edges, 0.5)
    with pytest.raises(SegError, match="sizes for"):
        agglomerate(3, sizes_of(1, 1), edges, 0.5)
    with pytest.raises(SegError, match="smaller node first"):
        agglomerate(2, sizes_of(1, 1), edges_of([(2, 1, 1, 1, 0, 0)]), 0.5)
    with pytest.raises(SegError, match="give 0 or more"):
        agglomerate(2, sizes_of(1, 1), edges, 0.5, repulsion=-1.0)
