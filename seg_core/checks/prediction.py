"""Whether a prediction is whole, finite, and says anything."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.blockwise.records import BlockState
from seg_core.blockwise.stage import block_states
from seg_core.checks.measured import Figures, Measured, written
from seg_core.errors import SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box
from seg_core.predict import NOT_FINITE, Predict
from seg_core.run import Run
from seg_core.states import UP_TO_DATE, stages_of
from seg_core.verdicts import Verdict, named, write_verdicts
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray

VERSION = 1
SATURATED = 0.999
"""A block in which a larger share of all values is 0 or 1 is told."""


def check_prediction(run: Run, volume: Volume) -> list[Verdict]:
    """The verdicts on a run's prediction of a volume; they are kept in the store.

    Blocks that are up to date are read once, and again only when they were written since.

    Raises:
        NotReady: the run was not validated.
    """
    stage = stages_of(run, volume)[0]
    states, measured = block_states(stage), Measured(stage.output, "prediction", VERSION)
    done = {key: state for key, state in states.items() if state.state == "done"}
    chunks = written(stage.array, stage.output) if done else {}
    found = {
        key: measured.of(key, f"{s.record.content} {chunks[key]}", partial(_block, stage, key))
        for key, s in done.items()
    }
    made_from = fingerprint(
        measured.made_from(), {k: [s.state, s.reason] for k, s in states.items()}
    )
    verdicts = [
        prediction_finite(found, states),
        not_saturated(found),
        coverage(found, states),
    ]
    verdicts = [replace(verdict, made_from=made_from) for verdict in verdicts]
    write_verdicts(run.store, stage.output.folder, verdicts)
    return verdicts


def _block(stage: Predict, key: str) -> Figures:
    """Figures of one block, read piece by piece."""
    box, volume = stage.output.grid.box(key), stage.output.volume
    pieces = stage.sub_blocks(box)
    try:
        parts = [measure(stage.array, piece, volume.mask is not None) for piece in pieces]
    except SegError as error:
        return {"unreadable": str(error)}
    figures = together(parts)
    if figures["constant"] and _is_constant(volume.raw, pieces):
        figures["constant"] = []
    recorded = stage.records.read(key).content
    return figures | {"as_recorded": fingerprint([p["digest"] for p in parts]) == recorded}


def measure(array: ZarrArray, box: Box, masked: bool) -> Figures:
    """Figures of a piece: digest, values that are no number, that are 0 or 1, range by channel.

    Where there is a mask, voxels of which all channels are 0 lie outside it and do not count.
    """
    values = array.read(box)
    return {"digest": content(values)} | value_figures(values, masked)


def value_figures(values: NDArray[Any], masked: bool) -> Figures:
    """Of values (c, z, y, x), uint8 (255 is 1) or float: what `measure` says of them."""
    if values.dtype == np.uint8:
        low, high, finite = values == 0, values == 255, np.ones((), bool)
    else:  # what uint8 would hold, were it that
        low, high, finite = values < 0.5 / 255, values > 254.5 / 255, np.isfinite(values)
    inside = values.any(axis=0) if masked else np.ones(values.shape[1:], bool)
    return {
        "not_finite": int((~finite).sum()) if finite.ndim else 0,
        "saturated": int(((low | high) & inside).sum()),
        "values": int(inside.sum()) * len(values),
        "range": [[float(c.min()), float(c.max())] for c in values],
    }


def together(parts: list[Figures]) -> Figures:
    """Figures of a block from those of its pieces; `constant` are channels of one value."""
    lows = np.min([[low for low, _ in p["range"]] for p in parts], axis=0)
    highs = np.max([[high for _, high in p["range"]] for p in parts], axis=0)
    sums = {k: sum(p[k] for p in parts) for k in ("not_finite", "saturated", "values")}
    return sums | {"constant": np.flatnonzero(lows == highs).tolist()}


def _is_constant(raw: ZarrArray, pieces: list[Box]) -> bool:
    ends = [f(raw.read(piece)) for piece in pieces for f in (np.min, np.max)]
    return bool(min(ends) == max(ends))


def prediction_finite(found: dict[str, Figures], states: dict[str, BlockState]) -> Verdict:
    """No value is nan or infinite: none is stored, and no block failed for that."""
    bad = {key: f["not_finite"] for key, f in found.items() if f.get("not_finite")}
    failed = [k for k, s in states.items() if s.state == "failed" and NOT_FINITE in s.reason]
    figures = {"blocks": len(found), "not_finite": bad, "failed": failed}
    if not bad and not failed:
        sentence = f"all values of {len(found)} blocks are finite"
        return Verdict("prediction_finite", True, "error", sentence, figures)
    sentence = (
        f"{named([*bad, *failed])}: the network gives values that are no finite numbers; lower "
        "trainer.learning_rate, or mend the raw data there, in a new run"
    )
    return Verdict("prediction_finite", False, "error", sentence, figures)


def not_saturated(found: dict[str, Figures]) -> Verdict:
    """No block has a channel of one value where the image has not, or hardly any value inside."""
    read = {key: f for key, f in found.items() if "constant" in f}
    shares = {k: f["saturated"] / f["values"] if f["values"] else 0.0 for k, f in read.items()}
    full = [key for key, share in shares.items() if share > SATURATED]
    constant = {key: f["constant"] for key, f in read.items() if f["constant"]}
    highest = max(shares, key=lambda key: shares[key], default=None)
    mean = float(np.mean(list(shares.values()))) if shares else 0.0
    figures: Figures = {
        "blocks": len(read),
        "mean_share": mean,
        "highest_share": shares[highest] if highest else 0.0,
        "highest_block": highest,
        "bound": SATURATED,
        "constant_channels": constant,
    }
    if not full and not constant:
        sentence = f"no block is constant; {100 * mean:.3g} % of all values are 0 or 1"
        return Verdict("not_saturated", True, "warning", sentence, figures)
    parts = [f"{named(full)}: over {100 * SATURATED:g} % of the values are 0 or 1"] if full else []
    parts += [f"{named(list(constant))}: a channel has one value only"] if constant else []
    sentence = (
        f"{'; '.join(parts)}; look whether the image there is like what was trained on (brightness,"
        " contrast, artefacts)"
    )
    return Verdict("not_saturated", False, "warning", sentence, figures)


def coverage(found: dict[str, Figures], states: dict[str, BlockState]) -> Verdict:
    """Every block is there, and holds what was written when it was made."""
    open_ = {key: s.state for key, s in states.items() if s.state not in UP_TO_DATE}
    lost = [k for k, f in found.items() if "unreadable" in f or not f["as_recorded"]]
    figures: Figures = {
        "blocks": len(states),
        "done": len(found),
        "skipped": sum(s.state == "skipped" for s in states.values()),
        "not_up_to_date": open_,
        "not_as_written": lost,
    }
    if not open_ and not lost:
        sentence = f"all {len(states)} blocks of the ROI are done or outside the mask"
        return Verdict("coverage", True, "error", sentence, figures)
    parts = [f"{named(list(open_))}: not up to date"] if open_ else []
    parts += [f"{named(lost)}: chunks are lost or damaged since they were written"] if lost else []
    force = "--force --blocks KEY,..." if lost else ""
    sentence = f"{'; '.join(parts)}; make them with seg predict {force}".rstrip()
    return Verdict("coverage", False, "error", sentence, figures)
