"""Pages that need nothing but themselves: templates, and how numbers and pictures get in."""

import base64
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from seg_core.evaluate.criteria import higher_is_better
from seg_core.report.colours import CLASSES, KINDS
from seg_core.report.pictures import Panel, png

COLOUR_OF = {"split": 0, "missed": 0, "merge": 1, "extra": 1, "both": 2, "another class": 2}
"""Which of the colours of mistakes a kind has."""

NOTHING = "–"  # noqa: RUF001 - what stands for no number


def render(template: str, **content: Any) -> str:
    """A page, from a template of this package; all text is escaped."""
    return _environment().get_template(template).render(**content)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (
        number,
        fixed,
        exact,
        percent,
        seconds,
        length,
        panel_uri,
        svg_uri,
        unit,
        direction,
    ):
        environment.filters[filter_.__name__] = filter_
    environment.globals["kind_colours"] = [f"#{bytes(colour).hex()}" for colour in KINDS[1:]]
    environment.globals["class_colours"] = [f"#{bytes(colour).hex()}" for colour in CLASSES[1:]]
    environment.globals |= {
        "scale_bar": scale_bar,
        "extent": extent,
        "by_class": by_class,
        "colour_of": COLOUR_OF,
    }
    return environment


def number(value: Any) -> str:
    """A number for people: whole ones in groups of three digits, others with four that count."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return NOTHING if value is None else str(value)
    if not math.isfinite(value):
        return NOTHING
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def fixed(value: Any) -> str:
    """A score: with four digits after the point where it is small, so that columns line up."""
    return number(value) if value is None or not abs(value) < 10 else f"{value:.4f}"


def exact(value: Any) -> str:
    """Every digit, shown where the pointer rests."""
    return "no value" if value is None or not math.isfinite(value) else repr(value)


def percent(share: float) -> str:
    """A share of 1."""
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def seconds(value: float) -> str:
    """A time, in the units of a clock."""
    if value < 60:
        return f"{value:.2g} s" if value < 1 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def length(nanometres: float) -> str:
    """A length, in a unit that fits."""
    for size, name in ((1e6, "mm"), (1e3, "µm")):
        if nanometres >= size:
            return f"{nanometres / size:.3g} {name}"
    return f"{nanometres:.3g} nm"


def unit(criterion: str) -> str:
    """Of a score; most have none."""
    score = criterion.rpartition("/")[2]
    if score.startswith("voi"):
        return "bits"
    return "nm" if "distance" in score or score == "hausdorff" else ""


def direction(criterion: str) -> str:
    """Which way a score is better, as an arrow; a user's own score may not say."""
    try:
        return "↑" if higher_is_better(criterion) else "↓"
    except Exception:
        return ""


def panel_uri(panel: Panel) -> str:
    """A picture as the source of an image."""
    return f"data:image/png;base64,{base64.b64encode(png(panel.image)).decode()}"


def svg_uri(chart: bytes) -> str:
    """A chart as the source of an image."""
    return f"data:image/svg+xml;base64,{base64.b64encode(chart).decode()}"


def scale_bar(width: float) -> tuple[str, float]:
    """A round length of at most a third of a picture `width` nm wide, and its share of that."""
    power = 10.0 ** math.floor(math.log10(width / 3))
    bar = max(step * power for step in (1, 2, 5) if step * power <= width / 3)
    return length(bar), 100 * bar / width


def extent(shape: Sequence[int], voxel_size: Sequence[float]) -> str:
    """Of a volume in the world, from voxels and nm."""
    return " \u00d7 ".join(length(n * s) for n, s in zip(shape, voxel_size, strict=True))


def by_class(scores: Iterable[str]) -> dict[str, dict[str, str]]:
    """Names of scores as `<class>/<score>`, by score and class."""
    table: dict[str, dict[str, str]] = {}
    for key in scores:
        class_, _, score = key.rpartition("/")
        table.setdefault(score, {})[class_] = key
    return table
