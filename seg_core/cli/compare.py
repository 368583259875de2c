"""Runs side by side."""

from typing import Any

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--volume", metavar="NAME", help="Only this one; else all that a run segmented.")
@STORE
@JSON
def compare(runs: tuple[str, ...], volume: str | None, store: str | None, as_json: bool) -> None:
    """Put RUNS side by side: settings that differ, scores, time; and write a page with pictures."""
    from seg_core.report.side_by_side import compare_runs, write_comparison
    from seg_core.run import load_run
    from seg_core.volumes.declared import load_volume

    opened = Store(store)
    found = [load_run(opened, name) for name in dict.fromkeys(runs)]
    on = load_volume(opened, volume) if volume else None
    content = compare_runs(found, on)
    content["page"] = write_comparison(found, on)
    show(content, as_json, lambda: _lines(content))


def _lines(content: dict[str, Any]) -> list[str]:
    runs = content["runs"]
    rows = [["settings that differ", *runs]]
    rows += [
        [path, *(_text(values[run]) if run in values else "-" for run in runs)]
        for path, values in content["settings"].items()
    ]
    rows += [[], ["scores (* best, > criterion)", *runs]]
    rows += [_score_row(content, name, values) for name, values in content["scores"].items()]
    rows += [[], ["training", *runs]]
    for name in ("iterations", "seconds", "loss"):
        rows.append([name, *(_figure(content["training"][run], name) for run in runs)])
    for volume, by_run in content["volumes"].items():
        rows += [[], [f"on {volume}", *runs]]
        rows.append(["segments", *(_figure(by_run[run], "segments") for run in runs)])
        steps = dict.fromkeys(step for made in by_run.values() if made for step in made["steps"])
        rows += [
            [f"{step}, seconds", *(_figure(_step(by_run[run], step), "seconds") for run in runs)]
            for step in steps
        ]
    broken = [f"volume {name} is left out: {why}" for name, why in content["left_out"].items()]
    return [*_aligned(rows), "", *broken, f"page: {content['page']}"]


def _score_row(content: dict[str, Any], name: str, values: dict[str, float]) -> list[str]:
    mark = "> " if name in content["criterion"].values() else "  "
    best = content["best"][name]
    return [
        mark + name,
        *(
            f"{values[run]:.4f}{'*' if run in best else ' '}" if run in values else "- "
            for run in content["runs"]
        ),
    ]


def _step(made: dict[str, Any] | None, step: str) -> dict[str, float] | None:
    return made["steps"].get(step) if made else None


def _figure(figures: dict[str, float] | None, name: str) -> str:
    if not figures:
        return "-"
    value = figures[name]
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines: the first column to the left, all others to the right."""
    count = max(len(row) for row in rows)
    widths = [max((len(row[c]) for row in rows if c < len(row)), default=0) for c in range(count)]
    return [
        "  ".join(
            cell.ljust(width) if c == 0 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
