"""How results look on Dagster's pages."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows as a markdown table, columns as in the first one."""
    columns = list(rows[0]) if rows else []
    lines = [columns, ["---"] * len(columns), *([_cell(row[c]) for c in columns] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def curve(
    x: Sequence[float], y: Sequence[float], x_label: str, y_label: str
) -> dg.MarkdownMetadataValue:
    """A small picture of a curve, inside the page itself; for assets by run: rows of a database."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.5), dpi=80, layout="constrained")
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    axes.plot(x, y, linewidth=0.8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{y_label}](data:image/png;base64,{picture})")
