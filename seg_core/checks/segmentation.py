"""Whether a segmentation is one whole: no seams, no id twice, nothing lost, nothing behind."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.records import BlockState
from seg_core.blockwise.stage import block_states
from seg_core.checks.ids import ids_unique
from seg_core.checks.measured import Figures, Measured, written
from seg_core.checks.seams import across, inside, no_seams
from seg_core.errors import NotReady, SegError
from seg_core.fingerprint import fingerprint
from seg_core.fragments import Fragments
from seg_core.geometry import AXES, Box
from seg_core.kernels.relabel import relabel
from seg_core.lut import Table, read_slice, read_table
from seg_core.run import Run
from seg_core.segmentation import Segmentation
from seg_core.states import UP_TO_DATE, lut_state_of, stages_of
from seg_core.verdicts import Verdict, named, write_verdicts
from seg_core.volumes.declared import Volume

VERSION = 1


def check_segmentation(run: Run, volume: Volume) -> list[Verdict]:
    """The verdicts on a run's segmentation of a volume; they are kept in the store.

    Blocks that are up to date are read once, and again only when they were written since.

    Raises:
        NotReady: the run was not validated, or there is no look-up table yet.
    """
    _, fragments, stage = stages_of(run, volume)
    table = read_table(stage.output)
    if table is None:
        raise NotReady(
            f"run {run.name} has no segmentation of volume {volume.name} yet; make it with: "
            f"seg segment {run.name} {volume.name}"
        )
    states, measured = block_states(stage), Measured(stage.output, "segmentation", VERSION)
    blocks, faces = _measure(fragments, stage, table, states, measured)
    verdicts = [
        no_seams([b["inside"] for b in blocks.values() if "inside" in b], faces),
        ids_unique(run.frozen.task, stage.output, table),
        none_lost(blocks),
        up_to_date(states, lut_state_of(run, volume)),
    ]
    looked_at = {key: [state.state, state.reason] for key, state in states.items()}
    made_from = fingerprint(measured.made_from(), looked_at, table.made_from)
    verdicts = [replace(verdict, made_from=made_from) for verdict in verdicts]
    write_verdicts(run.store, stage.output.folder, verdicts)
    return verdicts


def _measure(
    fragments: Fragments,
    stage: Segmentation,
    table: Table,
    states: dict[str, BlockState],
    measured: Measured,
) -> tuple[dict[str, Figures], dict[str, list[list[int]]]]:
    """Figures of every block that is up to date, and agreement across faces between these."""
    output = stage.output
    done = [key for key, state in states.items() if state.state == "done"]
    chunks, below = (written(a, output) if done else {} for a in (stage.array, fragments.array))
    stamps = {
        k: fingerprint(states[k].record.content, chunks[k], below[k], table.slices[k]) for k in done
    }
    blocks = {
        key: measured.of(key, stamp, partial(_block, fragments, stage, table, key))
        for key, stamp in stamps.items()
    }
    readable = {key: stamp for key, stamp in stamps.items() if "unreadable" not in blocks[key]}
    faces: dict[str, list[list[int]]] = {axis: [] for axis in AXES}
    for key, stamp in readable.items():
        for axis, name in enumerate(AXES):
            neighbour = output.grid.next_along(key, axis)
            if neighbour in readable:
                look = partial(across, stage.array, output.grid, key, axis)
                found = measured.of(f"{key}.{name}", stamp + readable[neighbour], look)
                faces[name].append(found["agree"])
    return blocks, faces


def _block(fragments: Fragments, stage: Segmentation, table: Table, key: str) -> Figures:
    """Figures of one block, read piece by piece."""
    names = read_slice(stage.output, key, table.slices[key])
    try:
        parts = [
            _piece(fragments, stage, names, p) for p in stage.sub_blocks(stage.output.grid.box(key))
        ]
    except SegError as error:
        return {"unreadable": str(error)}
    sizes = np.sum([sizes for sizes, _ in parts], axis=0)
    joins = stage.task.postprocess.joins
    dropped = table.parameters.get("drop_size", 0)
    # a segment below drop_size is background; each of its fragments is smaller still
    unassigned = (names == 0) & (sizes >= max(1, dropped)) & (np.arange(len(names)) > 0)
    return {
        "wrong": sum(f["wrong"] for _, f in parts),
        "fragment_voxels": int(sizes[names > 0].sum()),
        "segment_voxels": sum(f["segment_voxels"] for _, f in parts),
        "empty_fragments": int((sizes[1:] == 0).sum()) if joins else 0,
        "unassigned_fragments": int(unassigned.sum()),
        "inside": {
            axis: np.sum([f["inside"][axis] for _, f in parts], axis=0).tolist() for axis in AXES
        },
    }


def _piece(
    fragments: Fragments,
    stage: Segmentation,
    names: NDArray[np.uint64],
    box: Box,
) -> tuple[NDArray[np.int64], Figures]:
    """Voxels of every fragment in a piece, and figures of the piece."""
    below, labels = fragments.array.read(box), stage.array.read(box)
    figures = {
        "wrong": int((relabel(below, names) != labels).sum()),
        "segment_voxels": int(np.count_nonzero(labels)),
        "inside": inside(labels),
    }
    return np.bincount(below.ravel(), minlength=len(names)), figures


def none_lost(blocks: dict[str, Figures]) -> Verdict:
    """Every fragment is in a segment or was dropped for its size, and no voxel got lost."""
    read = {key: f for key, f in blocks.items() if "unreadable" not in f}
    names = ("wrong", "empty_fragments", "unassigned_fragments")
    figures: Figures = {n: sum(f[n] for f in read.values()) for n in names}
    figures |= {n: sum(f[n] for f in read.values()) for n in ("fragment_voxels", "segment_voxels")}
    bad = [
        key
        for key, f in blocks.items()
        if "unreadable" in f
        or any(f[n] for n in names)
        or f["fragment_voxels"] != f["segment_voxels"]
    ]
    figures |= {"blocks": len(blocks), "bad_blocks": bad}
    if not bad:
        sentence = (
            f"all {figures['fragment_voxels']} voxels of fragments are in the segment that the "
            f"look-up table says, in {len(blocks)} blocks"
        )
        return Verdict("none_lost", True, "error", sentence, figures)
    sentence = (
        f"{named(bad)}: voxels are not in the segment that the look-up table says "
        f"({figures['wrong']} voxels, {figures['empty_fragments']} fragments without voxels, "
        f"{figures['unassigned_fragments']} without a segment); make them again with "
        "seg segment --force"
    )
    return Verdict("none_lost", False, "error", sentence, figures)


def up_to_date(states: dict[str, BlockState], table: BlockState) -> Verdict:
    """No block is behind the look-up table, nor that behind the fragments."""
    behind = {key: s.state for key, s in states.items() if s.state not in UP_TO_DATE}
    figures = {"blocks": len(states), "behind": behind, "table": table.state}
    if not behind and table.state == "done":
        sentence = f"all {len(states)} blocks are up to date with the look-up table"
        return Verdict("up_to_date", True, "error", sentence, figures)
    of_table = f"the look-up table is {table.state} ({table.reason})"
    parts = [of_table] if table.state != "done" else []
    parts += [f"{len(behind)} block(s) are behind it: {named(list(behind))}"] if behind else []
    sentence = f"{'; '.join(parts)}; bring them up to date with seg segment"
    return Verdict("up_to_date", False, "error", sentence, figures)
