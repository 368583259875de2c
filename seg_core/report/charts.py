"""Charts of training, validation, sizes and times: calm, small, the same bytes each time."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from seg_core.evaluate.criteria import higher_is_better

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#e69f00", "#56b4e9", "#000000")
POINTS = 1000  # of a line; more cannot be seen
BLOCKS = 200  # bars along an axis; more blocks share one

_STYLE: Any = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    # text stays text, and ids in the file are drawn from this and not by lot
    "svg.fonttype": "none",
    "svg.hashsalt": "seg",
}


@contextmanager
def _axes(width: float = 7.0, height: float = 2.6) -> Iterator[Axes]:
    """Axes of a new figure, in our style; the figure is `axes.figure`."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained").add_subplot()


def png(axes: Axes) -> bytes:
    """The figure of these axes as PNG."""
    return _saved(axes, "png", {"Software": None})


def svg(axes: Axes) -> bytes:
    """The figure of these axes as SVG."""
    return _saved(axes, "svg", {"Date": None, "Creator": None})


def _saved(axes: Axes, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        axes.figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)  # type: ignore[union-attr]
    return buffer.getvalue()


def draw_curve(rows: pd.DataFrame) -> bytes:
    """PNG of the loss and its terms by iteration, from rows of `training.parquet`."""
    return png(curve(rows))


def draw_learning_rate(rows: pd.DataFrame) -> bytes:
    """PNG of the learning rate by iteration, from rows of `training.parquet`."""
    return png(learning_rate(rows))


def draw_sweep(scores: pd.DataFrame, criterion: str) -> bytes:
    """PNG of a score by threshold for each checkpoint, from rows of `scores.parquet`."""
    return png(sweep(scores, criterion))


def curve(rows: pd.DataFrame) -> Axes:
    """Loss as it was (pale), smoothed (strong), and its smoothed terms."""
    with _axes() as axes:
        shown = _thinned(rows)
        axes.plot(shown.iteration, shown.loss, color=BLUE, alpha=0.4, linewidth=0.7)
        terms = [name for name in rows if str(name).startswith("loss_")]
        smooth = _thinned(_smoothed(rows, ["loss", *terms]))
        for name, colour in zip(["loss", *terms], COLOURS, strict=False):
            label = str(name).removeprefix("loss_")
            style = "-" if name == "loss" else "--"
            axes.plot(smooth.iteration, smooth[name], style, color=colour, label=label)
        axes.set(xlabel="iteration", ylabel="loss", ylim=(0, _top(smooth.loss, shown.loss)))
        axes.legend(ncols=4, loc="upper right")
    return axes


def curves(runs: Mapping[str, pd.DataFrame]) -> Axes:
    """The smoothed loss of several runs."""
    with _axes() as axes:
        for (name, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False):
            smooth = _thinned(_smoothed(rows, ["loss"]))
            axes.plot(smooth.iteration, smooth.loss, color=colour, label=name)
        axes.set(xlabel="iteration", ylabel="loss, smoothed")
        axes.set_ylim(bottom=0)
        axes.legend()
    return axes


def learning_rate(rows: pd.DataFrame) -> Axes:
    """The learning rate by iteration."""
    with _axes(height=1.5) as axes:
        shown = _thinned(rows)
        axes.plot(shown.iteration, shown.learning_rate, color=GREY)
        axes.set(xlabel="iteration", ylabel="learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    return axes


def sweep(scores: pd.DataFrame, criterion: str) -> Axes:
    """A score, the mean over all datasets, by threshold: a line for each checkpoint.

    Every point is the best over the other parameters. Where nothing is swept, by checkpoint.
    """
    by, table = _swept(scores, criterion)
    higher = higher_is_better(criterion)
    with _axes() as axes:
        lines = table.groupby("iteration") if by != "iteration" else [("", table)]
        shades = mpl.colormaps["cividis"](_dark_last(len(lines)))
        for (iteration, line), colour in zip(lines, shades, strict=True):
            best = line.groupby("at").score.agg("max" if higher else "min")
            axes.plot(best.index, best, "o-", markersize=3.5, color=colour, label=str(iteration))
        finite = table[np.isfinite(table.score)]
        if len(finite):
            top = finite.loc[finite.score.idxmax() if higher else finite.score.idxmin()]
            axes.plot(top["at"], top.score, "o", markersize=10, fillstyle="none", color=ORANGE)
        axes.set(xlabel=by, ylabel=f"{criterion}\n({'higher' if higher else 'lower'} is better)")
        if by != "iteration":
            axes.legend(title="iteration", loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def _swept(scores: pd.DataFrame, criterion: str) -> tuple[str, pd.DataFrame]:
    """What to draw by, and for every choice its checkpoint, its value of that, its mean score."""
    chosen = scores[scores.criterion == criterion]
    groups = chosen.groupby(["iteration", "parameters"], as_index=False).score
    means = groups.agg(lambda values: values.to_numpy().mean())
    parameters = pd.DataFrame([json.loads(text) for text in means.parameters])
    varied = [str(name) for name in parameters if parameters[name].nunique() > 1]
    by = "threshold" if "threshold" in varied else varied[0] if varied else "iteration"
    return by, means.assign(at=parameters[by] if varied else means.iteration)


def sizes(edges: Sequence[float], counts: Sequence[int], voxel_um3: float) -> Axes:
    """How many segments are how large: a histogram over voxels (below) and um^3 (above)."""
    with _axes() as axes:
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="white")
        axes.set(xlabel="voxels of a segment", ylabel="segments", xscale="log")
        axes.grid(axis="x", visible=False)
        scale = (partial(np.multiply, voxel_um3), partial(np.multiply, 1 / voxel_um3))
        above = axes.secondary_xaxis("top", functions=scale)
        above.set_xlabel("µm³")
    return axes


def blocks(steps: Mapping[str, NDArray[np.float64]], unit: str) -> Axes:
    """A figure of every block of every step, blocks in C order; nan where there is none."""
    with _axes(height=2.2) as axes:
        for (step, values), colour in zip(steps.items(), COLOURS, strict=False):
            parts = np.array_split(values, min(BLOCKS, len(values)))
            means = [float(np.nanmean(p)) if np.isfinite(p).any() else math.nan for p in parts]
            at = np.cumsum([0] + [len(p) for p in parts[:-1]])
            axes.plot(at, means, "o-", markersize=3, linewidth=0.8, color=colour, label=step)
        axes.set(xlabel="block, in C order", ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def _smoothed(rows: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """Mean over a fiftieth of the curve around each iteration."""
    window = max(1, len(rows) // 50)
    means = rows[list(names)].rolling(window, center=True, min_periods=1).mean()
    return means.assign(iteration=rows.iteration)


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:: max(1, len(rows) // POINTS)]


def _top(smooth: pd.Series, shown: pd.Series) -> float:
    """An end of the axis that a few wild iterations do not set."""
    return max(1e-6, 1.08 * max(float(smooth.max()), float(np.percentile(shown, 98))))


def _dark_last(count: int) -> NDArray[np.float64]:
    return np.linspace(0.1, 0.85, count)[::-1]
