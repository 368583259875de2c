"""What a person looks at: scores where there are labels, segment sizes, times, and pictures."""

import base64
import html
import json
from typing import Any

import numpy as np

from seg_core.best import read_best
from seg_core.blockwise.output import Output
from seg_core.errors import NotReady
from seg_core.report.pictures import draw_section
from seg_core.run import Run
from seg_core.segment import output_of, states_of
from seg_core.source import open_source
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray, open_array


def make(run: Run, volume: Volume) -> dict[str, Any]:
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
    picture = draw_section(run, volume)
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
