"""Promotion: which run the next is compared with, and starts from."""

from dataclasses import asdict

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.errors import SegError
from seg_core.store import Store


@click.command()
@click.argument("run", required=False)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="By how much its criterion may be worse than that of the promoted run.",
)
@click.option("--anyway", is_flag=True, help="Promote it though it is worse.")
@click.option("--back", is_flag=True, help="Promote again what was promoted before.")
@STORE
@JSON
def promote(
    run: str | None, tolerance: float, anyway: bool, back: bool, store: str | None, as_json: bool
) -> None:
    """Promote RUN if it is not worse than the promoted run; without RUN, show which that is.

    Both are scored on RUN's validation sources, as these are now, by RUN's criterion.
    """
    opened = Store(store)
    if back and run:
        raise SegError(f"--back takes no run (given: {run}); it promotes what was so before")
    if back:
        _back(opened, as_json)
    elif run:
        _promote(opened, run, tolerance, anyway, as_json)
    else:
        _show(opened, as_json)


def _back(store: Store, as_json: bool) -> None:
    from seg_core.lifecycle.promotion import roll_back

    now = roll_back(store)
    show({"run": now}, as_json, lambda: [f"run {now} is promoted again"])


def _promote(store: Store, run: str, tolerance: float, anyway: bool, as_json: bool) -> None:
    from seg_core.lifecycle.promotion import compare
    from seg_core.lifecycle.promotion import promote as promote_run
    from seg_core.run import load_run

    found = load_run(store, run)
    verdict = compare(found, tolerance)
    promote_run(found, anyway=anyway)
    result = {"run": run, "comparison": asdict(verdict)}
    show(result, as_json, lambda: [f"run {run} is promoted: {verdict.sentence}"])


def _show(store: Store, as_json: bool) -> None:
    from seg_core.lifecycle.promoted import promoted, read_history

    now, history = promoted(store), read_history(store)
    show(
        {"run": now, "history": history},
        as_json,
        lambda: [
            f"run {now} is promoted" if now else "no run is promoted",
            *(f"  {entry['at']}  {entry['run']}: {entry['why']}" for entry in history),
        ],
    )
