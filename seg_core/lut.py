"""6. Look-up table: from the fragments of all blocks to segments, by blocks.

The table is kept in slices, one for each block: a segmentation block depends on its slice only.
"""

import io
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import BlockState, Record
from seg_core.blockwise.stage import block_states
from seg_core.errors import NotReady
from seg_core.fingerprint import content, fingerprint
from seg_core.fragments import Fragments
from seg_core.kernels.agglomeration import agglomerate
from seg_core.kernels.region_graph import Edges
from seg_core.lease import Lease
from seg_core.merging.names import Range, give_names, give_ranges
from seg_core.merging.volume_graph import BlockFragments, read_graph
from seg_core.postprocess.postprocess import Parameters
from seg_core.tasks.task import Task

VERSION = 1
FILE = "lut/table.json"


@dataclass(frozen=True)
class Table:
    """What `lut/table.json` says.

    Attributes:
        made_from: fingerprint of all fragments and of the parameters.
        ranges: ids of every block's fragments.
        slices: digest of every block's slice, which also names its file.
        following: the first id that was never used.
        parameters: how fragments were joined.
        figures: counts and seconds.
        forced: the token under which it was made again though nothing had changed.
    """

    made_from: str
    ranges: dict[str, Range]
    slices: dict[str, str]
    following: int
    parameters: Parameters
    figures: dict[str, float]
    forced: str = ""


def read_table(output: Output) -> Table | None:
    """The table that was made last, None where none was."""
    found = output.store.read_json(output.path(FILE))
    if found is None:
        return None
    ranges = {key: Range(**value) for key, value in found.pop("ranges").items()}
    return Table(ranges=ranges, **found)


def read_slice(output: Output, key: str, digest: str) -> NDArray[np.uint64]:
    """The segment of every fragment 0 to n of a block (0 is 0)."""
    raw = output.store.read_bytes(output.path(f"lut/{key}-{digest}.npy"))
    return np.asarray(np.load(io.BytesIO(raw), allow_pickle=False))


def make_lut(
    task: Task,
    output: Output,
    parameters: Parameters,
    *,
    force: str = "",
    renumber: bool = False,
) -> tuple[Table, bool]:
    """Bring the table up to date.

    Args:
        task: its post-processing says whether fragments are joined.
        output: where the fragments are.
        parameters: of the agglomeration.
        force: a token; the table is made again though nothing changed, once for each token.
        renumber: forget all names and ids, and number from 1 again.

    Returns:
        The table, and whether this call made it.

    Raises:
        NotReady: fragments of some blocks are missing, failed or stale; they are named.
        Busy: another process makes it.
    """
    blocks = ready_fragments(task, output)
    made_from = fingerprint(blocks, parameters, VERSION)
    before = None if renumber else read_table(output)
    if before is not None and before.made_from == made_from and force in ("", before.forced):
        return before, False
    what = f"the look-up table of {output.folder}"
    with Lease(output.store, output.path("lut/table.lock"), what):
        began = time.monotonic()
        # another process may have given ids until now
        before = None if renumber else read_table(output)
        ranges, names, following = _name(task, output, blocks, parameters, before)
        slices = _write_slices(output, ranges, names)
        figures = {
            "fragments": len(names),
            "segments": int(np.count_nonzero(np.unique(names))),
            "seconds": time.monotonic() - began,
        }
        forced = force or (before.forced if before else "")
        table = Table(made_from, ranges, slices, following, parameters, figures, forced)
        output.store.write_json(output.path(FILE), asdict(table))
        _remove_old_slices(output, table)
    return table, True


def _name(
    task: Task,
    output: Output,
    blocks: BlockFragments,
    parameters: Parameters,
    before: Table | None,
) -> tuple[dict[str, Range], NDArray[np.uint64], int]:
    """Ids of all fragments, the name of each one's segment, and the first id never used."""
    ranges, following = give_ranges(
        blocks, before.ranges if before else {}, before.following if before else 1
    )
    clusters = solve(task, output, blocks, [parameters])[0]
    if not task.postprocess.joins:
        return ranges, clusters, following
    former = _names_before(output, before, ranges) if before else None
    names, following = give_names(clusters, _ids(ranges), former, following)
    return ranges, names, following


def lut_state(task: Task, output: Output, parameters: Parameters) -> BlockState:
    """Whether the table is missing, stale or done, and why."""
    table = read_table(output)
    if table is None:
        return BlockState("missing", "", Record("missing"))
    record = Record("done", figures=table.figures)
    try:
        blocks = ready_fragments(task, output)
    except NotReady:
        return BlockState("stale", "fragments of some blocks are not up to date", record)
    if table.made_from != fingerprint(blocks, parameters, VERSION):
        return BlockState("stale", "changed since: fragments or parameters", record)
    return BlockState("done", "", record)


def ready_fragments(task: Task, output: Output) -> BlockFragments:
    """Count and digest of the fragments of every block inside the mask.

    Raises:
        NotReady: some are not up to date, or no block is inside.
    """
    states = block_states(Fragments(output, task, 0))
    bad = {key: state for key, state in states.items() if state.state not in ("done", "skipped")}
    if bad:
        named = [f"{k} ({s.state}{': ' + s.reason if s.reason else ''})" for k, s in bad.items()]
        more = f" and {len(named) - 20} more" if len(named) > 20 else ""
        raise NotReady(
            f"the look-up table of {output.folder} needs the fragments of all blocks; "
            f"not up to date: {'; '.join(named[:20])}{more}. Make these first."
        )
    found = {
        key: (int(s.record.figures["fragments"]), s.record.content)
        for key, s in states.items()
        if s.state == "done"
    }
    if not found:
        raise NotReady(f"all blocks of {output.folder} lie outside the mask: give another one")
    return found


def solve(
    task: Task, output: Output, blocks: BlockFragments, sweep: list[Parameters]
) -> list[NDArray[np.uint64]]:
    """The cluster of every fragment, blocks in C order, for each choice of parameters.

    The graph is read once, so a sweep is cheap. Classes stay what they are.
    """
    if not task.postprocess.joins:
        counts = [count for count, _ in blocks.values()]
        classes = np.concatenate([np.arange(1, n + 1, dtype=np.uint64) for n in counts])
        return [classes] * len(sweep)
    sizes, edges = read_graph(output, blocks, task.neighbours)
    return [join(sizes, edges, parameters) for parameters in sweep]


def join(sizes: NDArray[np.int64], edges: Edges, parameters: Parameters) -> NDArray[np.uint64]:
    """The cluster of every fragment 1 to n of a region graph, (n,); 0 for those dropped."""
    chosen: dict[str, Any] = {**parameters, "min_size": int(parameters["min_size"])}
    drop_size = chosen.pop("drop_size", 0)
    clusters = agglomerate(len(sizes) - 1, sizes, edges, **chosen)
    voxels = np.bincount(clusters.astype(np.int64), weights=sizes, minlength=len(sizes))
    clusters[voxels[clusters.astype(np.int64)] < drop_size] = 0
    return clusters[1:]


def _ids(ranges: dict[str, Range]) -> NDArray[np.uint64]:
    parts = [np.arange(r.base + 1, r.base + r.count + 1, dtype=np.uint64) for r in ranges.values()]
    return np.concatenate(parts)


def _names_before(output: Output, before: Table, ranges: dict[str, Range]) -> NDArray[np.uint64]:
    """The segment that each fragment was in, 0 for those that are new."""
    parts = []
    for key, given in ranges.items():
        old = before.ranges.get(key)
        if old is not None and (old.base, old.count) == (given.base, given.count):
            parts.append(read_slice(output, key, before.slices[key])[1:])
        else:
            parts.append(np.zeros(given.count, np.uint64))
    return np.concatenate(parts)


def _write_slices(
    output: Output, ranges: dict[str, Range], names: NDArray[np.uint64]
) -> dict[str, str]:
    slices, start = {}, 0
    there = set(output.store.names(output.path("lut"), ".npy"))
    for key, given in ranges.items():
        values = np.concatenate([np.zeros(1, np.uint64), names[start : start + given.count]])
        start += given.count
        slices[key] = content(values)
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        if (name := f"{key}-{slices[key]}") not in there:
            output.store.write_bytes(output.path(f"lut/{name}.npy"), buffer.getvalue())
    return slices


def _remove_old_slices(output: Output, table: Table) -> None:
    wanted = {f"{key}-{digest}" for key, digest in table.slices.items()}
    for name in output.store.names(output.path("lut"), ".npy"):
        if name not in wanted:
            output.store.remove_file(output.path(f"lut/{name}.npy"))
