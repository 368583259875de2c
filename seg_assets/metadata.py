"""How results look on Dagster's pages."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from pandas import DataFrame


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows as a markdown table, columns as in the first one."""
    columns = list(rows[0]) if rows else []
    lines = [columns, ["---"] * len(columns), *([_cell(row[c]) for c in columns] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def sweep_table(scores: "DataFrame") -> dg.MarkdownMetadataValue:
    """One row for every choice that validation made, its scores beside each other."""
    index = ["iteration", "dataset", "parameters"]
    wide = scores.pivot_table("score", index, "criterion").reset_index()
    wide["parameters"] = wide["parameters"].map(_settings)
    return table([{str(k): v for k, v in row.items()} for row in wide.to_dict("records")])


def _settings(chosen: str) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in json.loads(chosen).items())


def picture(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """A small picture inside the page itself; for assets by run only: it is a row of a database."""
    content = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{content})")
