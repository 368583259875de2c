"""What a run and its blocks on a volume are now, and what is due."""

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store

if TYPE_CHECKING:
    from seg_core.blockwise.records import BlockState
    from seg_core.run import Run
    from seg_core.volumes.declared import Volume

    Rows = list[tuple[str, str, BlockState]]


@click.command()
@click.argument("run")
@click.argument("volume")
@click.option("--due", is_flag=True, help="Only what is to be made to bring all up to date.")
@STORE
@JSON
def blocks(run: str, volume: str, due: bool, store: str | None, as_json: bool) -> None:
    """Every step's and block's state, and why; last how many are in which state."""
    from seg_core.run import load_run
    from seg_core.volumes.declared import load_volume

    found = load_run(Store(store), run)
    declared = load_volume(found.store, volume)
    if due:
        _show_due(found, declared, as_json)
        return
    rows = _rows(found, declared)
    result = [
        {
            "step": step,
            "block": key,
            "state": state.state,
            "reason": state.reason,
            "tries": state.record.tries,
            "figures": state.record.figures,
        }
        for step, key, state in rows
    ]
    lines = [f"{step:17} {key:16} {s.state:8} {s.reason}".rstrip() for step, key, s in rows]
    show(result, as_json, lambda: [*lines, _summary(rows)])


def _rows(run: "Run", volume: "Volume") -> "Rows":
    """Step, block (of what is made whole: none) and state, in the order of the path."""
    from seg_core.report.facts import warnings_of
    from seg_core.report.state import report_state
    from seg_core.run_states import run_states
    from seg_core.segment import lut_state_of, output_of, own_parameters, states_of
    from seg_core.validation.best import BEST

    of_run = [(step, "", state) for step, state in run_states(run).items()]
    if not run.store.exists(f"{run.folder}/{BEST}"):
        return of_run  # what blocks are made from is not chosen yet
    states, table = states_of(run, volume), lut_state_of(run, volume)
    warnings = warnings_of(states, table)
    report = report_state(run, output_of(run, volume), states["segmentation"], warnings)
    if own := own_parameters(run, volume):
        said = ", ".join(f"{name}={value:g}" for name, value in own.items())
        reasons = [reason for reason in (table.reason, f"set for this volume: {said}") if reason]
        table = replace(table, reason="; ".join(reasons))
    by_block = {step: [(step, key, s) for key, s in of.items()] for step, of in states.items()}
    return [
        *of_run,
        *by_block["prediction"],
        *by_block["fragments"],
        ("lut", "", table),
        *by_block["segmentation"],
        ("report", "", report),
    ]


def _summary(rows: "Rows") -> str:
    """One line: how many of every step are in which state."""
    counts: dict[str, Counter[str]] = {}
    for step, _, state in rows:
        counts.setdefault(step, Counter())[state.state] += 1
    steps = [
        f"{step} " + ", ".join(f"{number} {state}" for state, number in sorted(of.items()))
        for step, of in counts.items()
    ]
    return "in all: " + "; ".join(steps)


def _show_due(run: "Run", volume: "Volume", as_json: bool) -> None:
    from seg_core.segment import unfinished

    due = unfinished(run, volume)
    lines = [f"{step:13} {key}" for step, keys in due.blocks.items() for key in keys]
    content: dict[str, Any] = {**due.blocks, "whole": due.whole}
    show(content, as_json, lambda: [*lines, *due.whole])
