"""The report of a run on a volume: what is known is collected, drawn, and written as a page."""

from typing import Any

from seg_core.blockwise.output import Output
from seg_core.errors import NotReady
from seg_core.geometry import Box
from seg_core.report import charts, facts
from seg_core.report.labelled import labelled_parts
from seg_core.report.page import render
from seg_core.report.parts import Part, examine
from seg_core.report.pictures import panels_of, section_through
from seg_core.report.sizes import describe_sizes, segment_sizes
from seg_core.report.state import report_made_from
from seg_core.run import Run
from seg_core.segment import lut_state_of, output_of, states_of
from seg_core.segmentation import Segmentation
from seg_core.train import training_rows
from seg_core.validation.best import read_best, read_scores
from seg_core.volumes.declared import Volume
from seg_core.volumes.ome_zarr import ZarrArray, open_array

VIEWS = 4  # labelled parts of which sections are shown


def make(run: Run, volume: Volume) -> dict[str, Any]:
    """As `seg_core.report.make_report`."""
    output, states = output_of(run, volume), states_of(run, volume)
    _refuse_behind(run, output, states)
    warnings = facts.warnings_of(states, lut_state_of(run, volume))
    made_from = report_made_from(run, output, states["segmentation"], warnings)
    segmentation = _open(output, "segmentation")
    sources, unscored = labelled_parts(run, volume)
    parts = [examine(run, volume, source, segmentation) for source in sources]
    content = _content(run, output, warnings, parts)
    content |= {"unscored": unscored, "made_from": made_from}
    shown = {"views": _views(run, volume, parts), "parts": parts, **_charts(run, states, content)}
    page = render("report.html", title=f"{run.name} on {volume.name}", c=content, **shown)
    run.store.write_json(output.path("report.json"), content)
    run.store.write_bytes(output.path("report.html"), page.encode())
    return content


def _refuse_behind(run: Run, output: Output, states: facts.States) -> None:
    behind = [
        key for key, s in states["segmentation"].items() if s.state not in ("done", "skipped")
    ]
    if behind:
        raise NotReady(
            f"the report of {output.folder} needs all segmentation blocks; not up to date: "
            f"{', '.join(behind[:20])}; make them with: seg segment {run.name} {output.volume.name}"
        )


def _open(output: Output, name: str) -> ZarrArray:
    return open_array(output.store.path(output.path(f"{name}.zarr")))


def _content(run: Run, output: Output, warnings: list[str], parts: list[Part]) -> dict[str, Any]:
    """What `report.json` says."""
    best, volume, figures = read_best(run), output.volume, [part.figures for part in parts]
    task = run.frozen.task
    return {
        "run": run.name,
        "volume": volume.name,
        "task": task.kind,
        "objects": task.postprocess.joins,
        "classes": [] if task.postprocess.joins else task.channels[1:],
        "shape": list(volume.roi.shape),
        "voxel_size": list(volume.voxel_size),
        "iteration": best.iteration,
        "parameters": best.parameters,
        "chosen": facts.parameters_of(output, best),
        "validation": {"criterion": best.criterion, **best.scores},
        "scores": {part["name"]: part["scores"] for part in figures},
        "parts": [{k: v for k, v in part.items() if k != "scores"} for part in figures],
        "segments": _sizes(run, output),
        "steps": facts.steps_of(output),
        "warnings": warnings,
        "checks": facts.verdicts_of(run, output),
        "settings": facts.settings_of(run, output),
        "versions": facts.versions(),
        "files": {
            **{name: _open(output, name).uri for name in ("prediction", "segmentation")},
            "report": output.store.path(output.path("report.html")),
        },
    }


def _sizes(run: Run, output: Output) -> dict[str, Any]:
    """Of all segments, in pieces no larger than those that the segmentation was made in."""
    stage, grid = Segmentation(output, run.frozen.task), output.grid
    pieces = (piece for key in grid for piece in stage.sub_blocks(grid.box(key)))
    background, sizes = segment_sizes(_open(output, "segmentation"), pieces)
    return describe_sizes(background, sizes, output.volume.voxel_size)


def _views(run: Run, volume: Volume, parts: list[Part]) -> list[dict[str, Any]]:
    """Sections across z, y, x through labelled parts, or through the volume where there are none.

    Of each: a name, and rows of panels by the section's name.
    """
    views: list[tuple[str, Box, ZarrArray | None]]
    views = [(p.source.name, p.source.roi, p.source.labels) for p in parts[:VIEWS]]
    shown = []
    for name, roi, labels in views or [(volume.name, volume.roi, None)]:
        sections = [section_through(roi, volume.voxel_size, axis) for axis in range(3)]
        rows = {section.name: panels_of(run, volume, section, labels) for section in sections}
        shown.append({"name": name, "rows": rows})
    return shown


def _charts(run: Run, states: facts.States, content: dict[str, Any]) -> dict[str, Any]:
    """Charts by name, as SVG, and what training took."""
    drawn, training, segments = {}, None, content["segments"]
    if run.store.exists(f"{run.folder}/training.parquet"):
        rows = training_rows(run)
        training = {"iterations": len(rows), "seconds": float(rows.seconds.sum())}
        drawn["curve"], drawn["learning_rate"] = charts.curve(rows), charts.learning_rate(rows)
    if segments["count"]:
        bars = (segments["edges"], segments["segments"], segments["voxel_um3"])
        drawn["sizes"] = charts.sizes(*bars)
    drawn["sweep"] = charts.sweep(read_scores(run), content["validation"]["criterion"])
    for figure, unit in (("seconds", "seconds"), ("peak_memory_mb", "MB")):
        if series := facts.by_block(states, figure):
            drawn[figure] = charts.blocks(series, unit)
    return {"charts": {name: charts.svg(axes) for name, axes in drawn.items()},
            "training": training}  # fmt: skip
