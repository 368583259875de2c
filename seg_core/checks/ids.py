"""Whether ids mean one thing each: of fragments over all blocks, and of segments."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seg_core.blockwise.output import Output
from seg_core.errors import NotReady
from seg_core.lut import Table, read_slice, ready_fragments
from seg_core.merging.names import Range
from seg_core.merging.volume_graph import read_graph
from seg_core.tasks.task import Task
from seg_core.verdicts import Verdict

Names = NDArray[np.uint64]


def ids_unique(task: Task, output: Output, table: Table) -> Verdict:
    """No fragment id is in two ranges, and every segment is one thing that hangs together."""
    twice = overlapping(table.ranges)
    if twice:
        named = "; ".join(f"{a} and {b}" for a, b in twice[:10])
        sentence = (
            f"blocks share ids of fragments: {named}; number all again with seg segment --renumber"
        )
        return Verdict("ids_unique", False, "error", sentence, {"blocks": twice})
    if not task.postprocess.joins:
        return _classes(task, output, table)
    try:
        blocks = ready_fragments(task, output)
    except NotReady:
        blocks = {}
    if {key: digest for key, (_, digest) in blocks.items()} != _contents(table):
        sentence = "no fragment id is in two blocks (segments: when the table is up to date)"
        return Verdict("ids_unique", True, "error", sentence, {"fragments": len(_ids(table))})
    edges = read_graph(output, blocks, task.neighbours)[1]
    names = np.concatenate([read_slice(output, k, table.slices[k])[1:] for k in table.ranges])
    torn = torn_segments(names, edges.u, edges.v)
    count = int(np.count_nonzero(np.unique(names)))
    figures = {"fragments": len(names), "segments": count, "torn": torn[:100]}
    if not torn:
        sentence = f"each of {count} segments is one thing, {len(names)} fragments have one id each"
        return Verdict("ids_unique", True, "error", sentence, figures)
    sentence = (
        f"{len(torn)} segment(s) are of several parts that do not touch: {torn[:10]}; number all "
        "again with seg segment --renumber"
    )
    return Verdict("ids_unique", False, "error", sentence, figures)


def overlapping(ranges: dict[str, Range]) -> list[tuple[str, str]]:
    """Pairs of blocks whose ids overlap."""
    given = sorted((r.base, r.base + r.count, key) for key, r in ranges.items() if r.count)
    return [(a[2], b[2]) for a, b in pairwise(given) if a[1] > b[0]]


def torn_segments(names: Names, u: Names, v: Names) -> list[int]:
    """Names of segments whose fragments do not all hang together.

    Args:
        names: (n,), the segment of the fragments 1 to n, 0 for none.
        u: (m,), one fragment of every pair that touches.
        v: (m,), the other.
    """
    a, b = u.astype(np.int64) - 1, v.astype(np.int64) - 1
    same = names[a] == names[b]
    ends = (np.ones(int(same.sum()), np.int8), (a[same], b[same]))
    parts = connected_components(coo_array(ends, shape=(len(names), len(names))), directed=False)[1]
    held = names > 0
    pairs = np.unique(np.stack([names[held], parts[held].astype(np.uint64)]), axis=1)
    found, counts = np.unique(pairs[0], return_counts=True)
    return [int(name) for name in found[counts > 1]]


def _classes(task: Task, output: Output, table: Table) -> Verdict:
    highest = max(
        (int(read_slice(output, k, digest).max()) for k, digest in table.slices.items()), default=0
    )
    known = len(task.channels) - 1
    figures = {"highest": highest, "classes": known}
    if highest <= known:
        return Verdict("ids_unique", True, "error", f"ids are the {known} classes", figures)
    sentence = f"the highest id is {highest}, of {known} classes; make the table again"
    return Verdict("ids_unique", False, "error", sentence, figures)


def _contents(table: Table) -> dict[str, str]:
    return {key: given.content for key, given in table.ranges.items()}


def _ids(table: Table) -> range:
    return range(sum(given.count for given in table.ranges.values()))
