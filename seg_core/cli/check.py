"""Checks: every verdict on a run, and on what it made of a volume."""

from dataclasses import asdict
from typing import Any

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store


@click.command()
@click.argument("run")
@click.argument("volume", required=False)
@STORE
@JSON
def check(run: str, volume: str | None, store: str | None, as_json: bool) -> int:
    """Check RUN's datasplit and scores, and its prediction and segmentation of VOLUME.

    Exits with 1 where a check of severity `error` fails. What hangs from a datasplit or from
    scores that failed does not start.
    """
    from seg_core.checks.every import check_run, check_volume
    from seg_core.run import load_run
    from seg_core.volumes.declared import load_volume

    found = load_run(Store(store), run)
    verdicts = check_run(found)
    if volume is not None:
        verdicts += check_volume(found, load_volume(found.store, volume))
    show([asdict(v) for v in verdicts], as_json, lambda: [_line(v) for v in verdicts])
    return int(any(v.blocks for v in verdicts))


def _line(verdict: Any) -> str:
    state = "passed" if verdict.passed else f"failed ({verdict.severity})"
    return f"{verdict.check:20} {state:17} {verdict.sentence}"
