"""Tables in Markdown."""

from collections.abc import Iterable, Iterator

from contexts.figures import Figures, Missing
from contexts.rows import Cell, Row


def table(columns: dict[str, Figures], rows: Iterable[Row]) -> Iterator[str]:
    """A column for every context; `-` is what was not measured."""
    yield from _head(columns)
    for name, cell in rows:
        yield _line(name, (_found(cell, figures) for figures in columns.values()))


def plain(columns: dict[str, dict[str, float]]) -> Iterator[str]:
    """Columns that have their figures by the names of rows."""
    yield from _head(columns)
    for name in next(iter(columns.values())):
        yield _line(name, (number(column[name]) for column in columns.values()))


def _head(names: Iterable[str]) -> Iterator[str]:
    yield _line("", names)
    yield "|---" + "|--:" * len(list(names)) + "|"


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def _found(cell: Cell, figures: Figures) -> str:
    try:
        found = cell(figures)
    except Missing:
        return "-"
    return found if isinstance(found, str) else number(found)


def number(value: float) -> str:
    """Three digits, as people write them."""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
