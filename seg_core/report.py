"""What a person looks at: scores where there are labels, segment sizes, times, and pictures."""

import base64
import html
import io
import json
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_core.blockwise.output import Output
from seg_core.datasplit import open_source
from seg_core.errors import NotReady
from seg_core.geometry import Box, triple
from seg_core.run import Run
from seg_core.segment import output_of, states_of
from seg_core.validate import read_best
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray, open_array

LARGEST_PICTURE = 512  # voxels along an axis of a picture's section


def make_report(run: Run, volume: Volume) -> dict[str, Any]:
    """Write `report.json` and `report.html` of a run on a volume.

    Returns:
        What `report.json` says.

    Raises:
        NotReady: segmentation blocks are not up to date; they are named.
    """
    output = output_of(run, volume)
    states = states_of(run, volume)
    behind = [
        key for key, s in states["segmentation"].items() if s.state not in ("done", "skipped")
    ]
    if behind:
        raise NotReady(
            f"the report of {output.folder} needs all segmentation blocks; not up to date: "
            f"{', '.join(behind[:20])}; make them with: seg segment {run.name} {volume.name}"
        )
    best, segmentation = read_best(run), _open(output, "segmentation")
    content = {
        "run": run.name,
        "volume": volume.name,
        "shape": list(volume.roi.shape),
        "voxel_size": list(volume.voxel_size),
        "iteration": best.iteration,
        "parameters": best.parameters,
        "validation": {"criterion": best.criterion, **best.scores},
        "scores": _scores(run, volume, segmentation),
        "segments": _sizes(segmentation, volume),
        "steps": {
            stage: {
                "blocks": len(blocks),
                "seconds": sum(s.record.figures.get("seconds", 0) for s in blocks.values()),
            }
            for stage, blocks in states.items()
        },
        "files": {
            **{name: _open(output, name).uri for name in ("prediction", "segmentation")},
            "report": output.store.path(output.path("report.html")),
        },
    }
    run.store.write_json(output.path("report.json"), content)
    picture = draw_section(run, volume, segmentation)
    run.store.write_bytes(output.path("report.html"), _page(content, picture).encode())
    return content


def _open(output: Output, name: str) -> ZarrArray:
    return open_array(output.store.path(output.path(f"{name}.zarr")))


def _scores(run: Run, volume: Volume, segmentation: ZarrArray) -> dict[str, dict[str, float]]:
    """Scores on every validation source of this volume's data, by its name."""
    sources = [open_source(run, c) for c in run.config.datasplit.validate_]
    return {
        s.name: run.frozen.task.scores(
            segmentation.read(s.roi), s.labels.read(s.roi), volume.voxel_size
        )
        for s in sources
        if s.volume.raw.uri == volume.raw.uri and volume.roi.contains(s.roi)
    }


def _sizes(segmentation: ZarrArray, volume: Volume) -> dict[str, float]:
    """Number of segments and their sizes in voxels, block after block."""
    total: dict[int, int] = {}
    for key in volume.grid:
        ids, counts = np.unique(segmentation.read(volume.grid.box(key)), return_counts=True)
        for name, count in zip(ids.tolist(), counts.tolist(), strict=True):
            total[name] = total.get(name, 0) + count
    background = total.pop(0, 0)
    sizes = np.array(sorted(total.values()) or [0])
    return {
        "count": len(total),
        "median_voxels": float(np.median(sizes)),
        "largest_voxels": int(sizes.max()),
        "background_voxels": background,
    }


def draw_section(run: Run, volume: Volume, segmentation: ZarrArray) -> bytes:
    """The middle section as PNG: raw, labels if there are any, prediction, segmentation."""
    box = _middle(volume.roi)
    raw = volume.raw.read(box)
    prediction = _open(output_of(run, volume), "prediction").read(box)
    panels: list[tuple[str, NDArray[Any], str | None]]
    panels = [("raw", raw if raw.ndim == 3 else raw[0], "gray")]
    if volume.labels is not None:
        panels.append(("labels", colours(volume.labels.read(box)[0]), None))
    panels.append((f"prediction: {run.frozen.task.channels[-1]}", prediction[-1], "gray"))
    panels.append(("segmentation", colours(segmentation.read(box)[0]), None))
    figure = Figure(figsize=(4 * len(panels), 4.3), layout="constrained")
    for place, (title, image, colour_map) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.imshow(image if image.ndim == 3 and image.shape[-1] == 3 else image[0], colour_map)
        axes.set_title(title)
        axes.set_axis_off()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _middle(roi: Box) -> Box:
    begin = [(b + e) // 2 for b, e in zip(roi.begin, roi.end, strict=True)]
    half = (0, LARGEST_PICTURE // 2, LARGEST_PICTURE // 2)
    box = Box(triple(begin), triple([begin[0] + 1, *begin[1:]]))
    return box.grow(half).clip(roi)


def colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """A (y, x, 3) picture of a (y, x) section of labels: a colour for each id, 0 is black."""
    numbers = labels.astype(np.uint64)[..., None]
    # multipliers near 2**64 / golden ratio spread neighbouring ids over all colours
    factors = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
    shades = ((numbers * factors) >> np.uint64(40)).astype(np.uint64) % np.uint64(200)
    return np.where(numbers > 0, shades + np.uint64(55), 0).astype(np.uint8)


def _page(content: dict[str, Any], picture: bytes) -> str:
    """A page that needs nothing but itself."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td><pre>{html.escape(_text(value))}</pre></td></tr>"
        for name, value in content.items()
    )
    image = base64.b64encode(picture).decode()
    title = html.escape(f"{content['run']} on {content['volume']}")
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title>"
        "<style>body{font:15px sans-serif;margin:2em}th{text-align:left;vertical-align:top;"
        "padding-right:1em}pre{margin:0}img{max-width:100%}</style>"
        f"<h1>{title}</h1><img alt='middle section' src='data:image/png;base64,{image}'>"
        f"<table>{rows}</table>\n"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1)
