"""Merge fragments into segments: greedy agglomeration of the region graph by average linkage.

Mean affinity as in waterz (Funke et al., "Large scale image segmentation with structured loss based
deep learning for connectome reconstruction", TPAMI 2019); repulsive long affinities in the mean as
in GASP (Bailoni et al., "GASP, a generalized framework for agglomerative clustering of signed
graphs", CVPR 2022).

A heap holds each pair at a score that it cannot exceed: sizes only grow, which only lowers scores,
so a popped pair is scored again and put back if it fell. Where two pairs of clusters become one,
the sum is pushed anew. Each edge e has two half-edges, 2e and 2e + 1, one in the list of either
cluster; a merge moves the shorter list into the longer.
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.kernels.region_graph import Edges, concatenate

_Integers = NDArray[np.int64]
# (-score, smaller id, greater id, edge, stamp); ids are 0 until equal scores make them matter
_Heap = list[tuple[float, int, int, int, int]]

# 2**64 / golden ratio: multiplying by it spreads keys over the high bits (Knuth, TAOCP 3, 6.4)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class _Rule(NamedTuple):
    """When to merge, and what a score is made of."""

    threshold: float
    size_penalty: float
    repulsion: float


class _Graph(NamedTuple):
    """Clusters, each known by the node that stayed its representative, and their edges."""

    sizes: _Integers  # voxels, by node
    smallest: _Integers  # smallest member of the cluster
    parents: _Integers  # node that this one was merged into, or itself
    degrees: _Integers  # half-edges in the node's list
    heads: _Integers  # first of them, -1 at the end of a list
    following: _Integers  # by half-edge
    preceding: _Integers
    owners: _Integers  # cluster whose list it is in; 0: the edge is gone
    sums: _Integers  # (edges, 4) as in Edges
    stamps: _Integers  # by edge: an entry of the heap with another stamp is out of date
    tied: NDArray[np.bool_]  # whether the edge's entry of the heap holds ids
    keys: NDArray[np.uint64]  # open-addressing hash of pairs of clusters, 0: empty
    values: _Integers  # the pair's edge
    filled: _Integers  # (1,) rows of the hash in use


def agglomerate(
    nodes: int,
    sizes: NDArray[np.int64],
    edges: Edges,
    threshold: float,
    size_penalty: float = 0.0,
    repulsion: float = 0.0,
    min_size: int = 0,
) -> NDArray[np.uint64]:
    """Merge the pair of clusters of the highest score, again and again while it is > `threshold`.

    The score of a pair is (attract_sum + repulsion * repel_sum) / (255 * (attract_count +
    repulsion * repel_count)) - size_penalty * log10(min(size_a, size_b) / 1000). Sums, counts and
    sizes add up as clusters merge. A pair with no direct voxel pair is not merged, but what repels
    it stays in the sums. Of equal scores the pair with the smaller (smaller id, greater id) goes
    first, a cluster's id being its smallest node: the order of the edges does not matter.

    Args:
        nodes: number n of nodes, which are 1 to n.
        sizes: int64 (n + 1,), voxels of each node; entry 0 is not used. 0 counts as 1 in a score.
        edges: the region graph, u and v within 1 to n.
        threshold: score from 0 to 1 (without a size penalty) that merged pairs exceed.
        size_penalty: score lost for every tenfold of the smaller cluster's size over 1000 voxels.
        repulsion: weight of a long pair of voxels relative to a direct one.
        min_size: in the end every cluster of fewer voxels, the smallest first, joins the neighbour
            of the highest mean direct affinity, whatever that is; one without neighbours stays.

    Returns:
        uint64 (n + 1,): the smallest node of each node's cluster; entry 0 is 0.

    Raises:
        SegError: the sizes or edges are not of these nodes, or a weight is negative.
    """
    _check(nodes, sizes, edges)
    if size_penalty < 0 or repulsion < 0:
        raise SegError(f"size_penalty {size_penalty}, repulsion {repulsion}: give 0 or more")
    graph = _graph(sizes, concatenate([edges]))
    rule = _Rule(float(threshold), float(size_penalty), float(repulsion))
    _merge_by_score(graph, rule)
    _merge_small(graph, min_size)
    return _roots(graph)


def _check(nodes: int, sizes: NDArray[np.int64], edges: Edges) -> None:
    """Refuse what would be read beyond the arrays."""
    if len(sizes) != nodes + 1:
        raise SegError(f"{len(sizes)} sizes for {nodes} nodes: give one a node after entry 0")
    if nodes >= 2**32:
        raise SegError(f"{nodes} nodes: at most 2**32 - 1 can be agglomerated at once")
    if len(edges) and not (edges.u.min() > 0 and edges.v.max() <= nodes):
        raise SegError(f"an edge ends outside nodes 1 to {nodes}: number the fragments 1 to n")
    if not (edges.u < edges.v).all():
        raise SegError("an edge has u >= v: give each pair with its smaller node first")


def _graph(sizes: NDArray[np.int64], edges: Edges) -> _Graph:
    """Every node a cluster of its own."""
    nodes, count = len(sizes), len(edges)
    sums = (edges.attract_sum, edges.attract_count, edges.repel_sum, edges.repel_count)
    rows = 1 << (4 * count).bit_length()
    graph = _Graph(
        sizes=np.array(sizes, np.int64),
        smallest=np.arange(nodes),
        parents=np.arange(nodes),
        degrees=np.zeros(nodes, np.int64),
        heads=np.full(nodes, -1),
        following=np.full(2 * count, -1),
        preceding=np.full(2 * count, -1),
        owners=np.stack([edges.u, edges.v], 1).astype(np.int64).ravel(),
        sums=np.stack(sums, 1),
        stamps=np.zeros(count, np.int64),
        tied=np.zeros(count, np.bool_),
        keys=np.zeros(rows, np.uint64),
        values=np.zeros(rows, np.int64),
        filled=np.zeros(1, np.int64),
    )
    _link_all(graph)
    return graph


@njit(cache=True)
def _link_all(graph: _Graph) -> None:
    """Fill the lists and the hash from the ends of the edges."""
    for half in range(len(graph.owners) - 1, -1, -1):
        _link(graph, half, graph.owners[half])
    _hash_all(graph)


@njit(cache=True)
def _merge_by_score(graph: _Graph, rule: _Rule) -> None:
    """Pop the heap until nothing in it is above the threshold."""
    heap = [(0.0, 0, 0, 0, 0) for _ in range(0)]
    for edge in range(len(graph.sums)):
        _push(graph, rule, heap, edge)
    while heap:
        negative, smaller, _, edge, stamp = heapq.heappop(heap)
        if stamp != graph.stamps[edge]:
            continue
        if -_score(graph, rule, edge) > negative:
            _push(graph, rule, heap, edge)
        elif smaller == 0 and heap and heap[0][0] == negative:
            _push_tied(graph, heap, edge, negative)
        else:
            _merge(graph, rule, heap, edge)


@njit(cache=True)
def _score(graph: _Graph, rule: _Rule, edge: int) -> float:
    """The score of an edge with at least one direct pair of voxels."""
    sums = graph.sums[edge]
    attract, direct = sums[0] + rule.repulsion * sums[2], sums[1] + rule.repulsion * sums[3]
    mean = attract / (255.0 * direct)
    if rule.size_penalty == 0:
        return mean
    a, b = graph.owners[2 * edge], graph.owners[2 * edge + 1]
    size = max(1, min(graph.sizes[a], graph.sizes[b]))
    return mean - rule.size_penalty * math.log10(size / 1000)


@njit(cache=True)
def _push(graph: _Graph, rule: _Rule, heap: _Heap, edge: int) -> None:
    """Put an edge into the heap if it may be merged, in place of any entry that it has."""
    graph.stamps[edge] += 1
    graph.tied[edge] = False
    if graph.sums[edge, 1] > 0:
        score = _score(graph, rule, edge)
        if score > rule.threshold:
            heapq.heappush(heap, (-score, 0, 0, edge, graph.stamps[edge]))


@njit(cache=True)
def _push_tied(graph: _Graph, heap: _Heap, edge: int, negative: float) -> None:
    """Put an edge back behind those of the same score and smaller ids."""
    graph.tied[edge] = True
    a = graph.smallest[graph.owners[2 * edge]]
    b = graph.smallest[graph.owners[2 * edge + 1]]
    heapq.heappush(heap, (negative, min(a, b), max(a, b), edge, graph.stamps[edge]))


@njit(cache=True)
def _merge(graph: _Graph, rule: _Rule, heap: _Heap, edge: int) -> None:
    """Make one cluster of an edge's two: the one of fewer edges becomes part of the other."""
    part, whole = graph.owners[2 * edge], graph.owners[2 * edge + 1]
    if graph.degrees[part] > graph.degrees[whole]:
        part, whole = whole, part
    _unlink(graph, 2 * edge)
    _unlink(graph, 2 * edge + 1)
    _drop(graph, edge)
    renamed = graph.smallest[part] < graph.smallest[whole]
    graph.parents[part] = whole
    graph.sizes[whole] += graph.sizes[part]
    graph.smallest[whole] = min(graph.smallest[part], graph.smallest[whole])
    half = graph.heads[part]
    while half >= 0:
        following = graph.following[half]
        _move(graph, rule, heap, half, whole)
        half = following
    if renamed:
        _push_renamed(graph, rule, heap, whole)


@njit(cache=True)
def _move(graph: _Graph, rule: _Rule, heap: _Heap, half: int, whole: int) -> None:
    """Give a half-edge to another cluster, or add its edge to the one that is there already."""
    edge, other_half = half >> 1, half ^ 1
    row = _find(graph, whole, graph.owners[other_half])
    if graph.keys[row] != 0:
        there = graph.values[row]
        graph.sums[there] += graph.sums[edge]
        _unlink(graph, other_half)
        _drop(graph, edge)
        _push(graph, rule, heap, there)
        return
    _link(graph, half, whole)
    _insert(graph, edge)
    if graph.tied[edge]:
        _push(graph, rule, heap, edge)


@njit(cache=True)
def _push_renamed(graph: _Graph, rule: _Rule, heap: _Heap, cluster: int) -> None:
    """A smaller id moves the edges of equal score forward; the others hold no ids yet."""
    half = graph.heads[cluster]
    while half >= 0:
        if graph.tied[half >> 1]:
            _push(graph, rule, heap, half >> 1)
        half = graph.following[half]


@njit(cache=True)
def _drop(graph: _Graph, edge: int) -> None:
    """Let an edge that is in no list any more be gone from the heap and the hash."""
    graph.owners[2 * edge] = graph.owners[2 * edge + 1] = 0
    graph.stamps[edge] += 1


@njit(cache=True)
def _link(graph: _Graph, half: int, cluster: int) -> None:
    """Put a half-edge at the front of a cluster's list."""
    first = graph.heads[cluster]
    graph.following[half], graph.preceding[half] = first, -1
    if first >= 0:
        graph.preceding[first] = half
    graph.heads[cluster] = half
    graph.owners[half] = cluster
    graph.degrees[cluster] += 1


@njit(cache=True)
def _unlink(graph: _Graph, half: int) -> None:
    """Take a half-edge out of its owner's list."""
    before, after = graph.preceding[half], graph.following[half]
    if before >= 0:
        graph.following[before] = after
    else:
        graph.heads[graph.owners[half]] = after
    if after >= 0:
        graph.preceding[after] = before
    graph.degrees[graph.owners[half]] -= 1


@njit(cache=True)
def _key(a: int, b: int) -> np.uint64:
    """A pair of clusters in one number."""
    return (np.uint64(min(a, b)) << _HALF) | np.uint64(max(a, b))


@njit(cache=True)
def _find(graph: _Graph, a: int, b: int) -> np.int64:
    """The row of the hash that holds a pair of clusters, or the empty one where it belongs."""
    key, last = _key(a, b), len(graph.keys) - 1
    spread = key * _SPREAD
    # a second round, because the first leaves out the key's highest bits
    spread = (spread ^ (spread >> _HALF)) * _SPREAD
    row = np.int64(spread >> _HALF) & last
    while graph.keys[row] != 0 and graph.keys[row] != key:
        row = (row + 1) & last
    return row


@njit(cache=True)
def _insert(graph: _Graph, edge: int) -> None:
    """Enter an edge under its two owners.

    Keys of clusters that are no more stay, unread, until half of the rows are filled. The hash has
    at least four rows an edge, so entering anew those that remain makes room enough.
    """
    if 2 * graph.filled[0] >= len(graph.keys):
        _hash_all(graph)
    _enter(graph, edge)


@njit(cache=True)
def _hash_all(graph: _Graph) -> None:
    """Empty the hash and enter every edge that is not gone."""
    graph.keys[:] = 0
    graph.filled[0] = 0
    for edge in range(len(graph.sums)):
        if graph.owners[2 * edge] != 0:
            _enter(graph, edge)


@njit(cache=True)
def _enter(graph: _Graph, edge: int) -> None:
    """Write an edge into the hash, in which there is room."""
    a, b = graph.owners[2 * edge], graph.owners[2 * edge + 1]
    row = _find(graph, a, b)
    graph.filled[0] += graph.keys[row] == 0
    graph.keys[row], graph.values[row] = _key(a, b), edge


@njit(cache=True)
def _merge_small(graph: _Graph, min_size: int) -> None:
    """Merge each cluster under `min_size` with its best neighbour, smallest (size, id) first."""
    # nothing is above this threshold, so that merges put nothing into a heap
    rule = _Rule(np.inf, 0.0, 0.0)
    unused = [(0.0, 0, 0, 0, 0) for _ in range(0)]
    small = [(0, 0, 0) for _ in range(0)]
    for node in range(1, len(graph.sizes)):
        if graph.parents[node] == node and graph.sizes[node] < min_size:
            heapq.heappush(small, (graph.sizes[node], graph.smallest[node], node))
    while small:
        size, smallest, cluster = heapq.heappop(small)
        now = (graph.sizes[cluster], graph.smallest[cluster])
        if graph.parents[cluster] != cluster or now != (size, smallest):
            continue
        edge = _best_edge(graph, cluster)
        if edge >= 0:
            a, b = graph.owners[2 * edge], graph.owners[2 * edge + 1]
            _merge(graph, rule, unused, edge)
            whole = a if graph.parents[a] == a else b
            if graph.sizes[whole] < min_size:
                heapq.heappush(small, (graph.sizes[whole], graph.smallest[whole], whole))


@njit(cache=True)
def _best_edge(graph: _Graph, cluster: int) -> int:
    """A cluster's edge of highest mean direct affinity, to the smallest id of equals; -1: none."""
    best, best_mean, best_id = -1, -1.0, 0
    half = graph.heads[cluster]
    while half >= 0:
        edge, other = half >> 1, graph.smallest[graph.owners[half ^ 1]]
        if graph.sums[edge, 1] > 0:
            mean = graph.sums[edge, 0] / graph.sums[edge, 1]
            if mean > best_mean or (mean == best_mean and other < best_id):
                best, best_mean, best_id = edge, mean, other
        half = graph.following[half]
    return best


@njit(cache=True)
def _roots(graph: _Graph) -> NDArray[np.uint64]:
    """The smallest node of each node's cluster."""
    roots = np.zeros(len(graph.parents), np.uint64)
    for node in range(1, len(graph.parents)):
        root = node
        while graph.parents[root] != root:
            # every second step is cut short for those that come after
            graph.parents[root] = graph.parents[graph.parents[root]]
            root = graph.parents[root]
        roots[node] = graph.smallest[root]
    return roots
