"""Several runs side by side: settings that differ, scores, curves, time, and sections."""

import math
from typing import Any

from seg_core.errors import NotReady, SegError
from seg_core.evaluate.criteria import better
from seg_core.fingerprint import fingerprint
from seg_core.lut import read_table
from seg_core.report import charts, colours
from seg_core.report.facts import steps_of
from seg_core.report.page import render
from seg_core.report.pictures import Panel, Section, raw_picture, section_through
from seg_core.run import Run, resolve
from seg_core.segment import output_of
from seg_core.train import training_rows
from seg_core.validation.best import read_best
from seg_core.volumes.declared import Volume, load_volume, volume_names
from seg_core.volumes.ome_zarr import open_array

LONGEST = 120  # characters of a page's name

ByRun = dict[str, Any]


def compare_runs(runs: list[Run], volume: Volume | None = None) -> dict[str, Any]:
    """What differs between runs, and what came of each; nothing is frozen or written by it.

    Args:
        runs: at least two, of one store.
        volume: one to look at; all on which one of the runs has a look-up table unless given.

    Returns:
        `settings` that differ, by dotted path and run; `criterion` and `chosen` by run; `scores` of
        the choices by name and run, with the `best` runs of each; `training` by run; and by
        volume and run the number of segments and what every step took; `left_out` says by volume
        why it cannot be opened. What a run has not made yet is None, a setting or score that it
        does not know is left out.

    Raises:
        SegError: fewer than two different runs are given.
    """
    if len({run.name for run in runs}) < 2:
        given = ", ".join(run.name for run in runs)
        raise SegError(f"expected two or more different runs to compare, given: {given}")
    scores, (volumes, broken) = _scores(runs), _volumes(runs, volume)
    return {
        "runs": [run.name for run in runs],
        "settings": _settings(runs),
        "criterion": {run.name: run.config.criterion for run in runs},
        "chosen": {run.name: _chosen(run) for run in runs},
        "scores": scores,
        "best": {name: _best(name, values) for name, values in scores.items()},
        "training": {run.name: _training(run) for run in runs},
        "volumes": {v.name: {r.name: _made(r, v) for r in runs} for v in volumes},
        "left_out": broken,
    }


def write_comparison(runs: list[Run], volume: Volume | None = None) -> str:
    """Write the comparison as a page to `reports/` of the store.

    Returns:
        Where it is.

    Raises:
        SegError: as `compare_runs`.
    """
    content, store = compare_runs(runs, volume), runs[0].store
    trained = {r.name: training_rows(r) for r in runs if content["training"][r.name]}
    page = render(
        "compare.html",
        title=f"{', '.join(content['runs'][:-1])} and {content['runs'][-1]}",
        c=content,
        curves=charts.svg(charts.curves(trained)) if trained else None,
        sections={v.name: _sections(runs, v) for v in _volumes(runs, volume)[0]},
    )
    name = "-".join(["compare", *content["runs"]])
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{fingerprint(content['runs'])[:8]}"
    path = f"reports/{name}.html"
    store.write_bytes(path, page.encode())
    return store.path(path)


def _settings(runs: list[Run]) -> dict[str, ByRun]:
    """Settings, with every default, that not all runs have alike."""
    all_leaves = {run.name: _leaves(_config(run)) for run in runs}
    paths = dict.fromkeys(path for leaves in all_leaves.values() for path in leaves)
    settings = {
        path: {name: leaves[path] for name, leaves in all_leaves.items() if path in leaves}
        for path in paths
    }
    return {
        path: values
        for path, values in settings.items()
        if len(values) < len(all_leaves)
        or any(v != next(iter(values.values())) for v in values.values())
    }


def _config(run: Run) -> dict[str, Any]:
    config = run.frozen if run.is_frozen else resolve(run.config)
    return config.model_dump(mode="json", by_alias=True)


def _leaves(content: Any, at: str = "") -> dict[str, Any]:
    """Values by dotted path; members of a list of mappings are named by their number."""
    if isinstance(content, list) and content and all(isinstance(c, dict) for c in content):
        content = {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, dict) or not content:
        return {at: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _leaves(value, f"{at}.{key}" if at else key)
    return found


def _scores(runs: list[Run]) -> dict[str, ByRun]:
    table: dict[str, ByRun] = {}
    for run in runs:
        try:
            best = read_best(run)
        except NotReady:
            continue
        for name, score in best.scores.items():
            table.setdefault(name, {})[run.name] = score
    return table


def _chosen(run: Run) -> dict[str, Any] | None:
    try:
        best = read_best(run)
    except NotReady:
        return None
    return {"iteration": best.iteration, "parameters": best.parameters}


def _best(name: str, values: ByRun) -> list[str]:
    """The runs that no other is better than; none where there is nothing to choose from."""
    numbers = {run: v for run, v in values.items() if not math.isnan(v)}
    if len(numbers) < 2 or len(set(numbers.values())) < 2:
        return []
    return [r for r, v in numbers.items() if not any(better(name, o, v) for o in numbers.values())]


def _training(run: Run) -> dict[str, float] | None:
    """Iterations done and asked for, seconds, and the mean loss of the last twentieth."""
    if not run.store.exists(f"{run.folder}/training.parquet"):
        return None
    rows = training_rows(run)
    return {
        "iterations": len(rows),
        "of": run.config.trainer.iterations,
        "seconds": float(rows.seconds.sum()),
        "loss": float(rows.loss.tail(max(1, len(rows) // 20)).mean()),
    }


def _volumes(runs: list[Run], volume: Volume | None) -> tuple[list[Volume], dict[str, str]]:
    """The volumes to look at; and by name why others cannot be opened."""
    if volume is not None:
        return [volume], {}
    store, found, broken = runs[0].store, list[Volume](), dict[str, str]()
    for name in volume_names(store):
        try:
            declared = load_volume(store, name)
            _ = declared.grid, declared.labels
        except SegError as error:  # it takes away only itself
            broken[name] = str(error)
            continue
        if any(read_table(output_of(run, declared)) for run in runs):
            found.append(declared)
    return found, broken


def _made(run: Run, volume: Volume) -> dict[str, Any] | None:
    """Segments, and what each step took."""
    output = output_of(run, volume)
    table = read_table(output)
    if table is None:
        return None
    return {"segments": table.figures["segments"], "steps": steps_of(output)}


def _sections(runs: list[Run], volume: Volume) -> list[tuple[str, list[Panel]]]:
    """Sections across z, y, x, by name: raw, labels if any, and the segmentation of each run."""
    found = []
    for axis in range(3):
        section = section_through(volume.roi, volume.voxel_size, axis)
        panels = [section.panel("raw", raw_picture(volume, section))]
        if volume.labels is not None:
            labels = colours.of_labels(runs[0].config.task, section.of(volume.labels))
            panels.append(section.panel("labels", labels))
        panels += [panel for run in runs for panel in _segmentation(run, volume, section)]
        found.append((section.name, panels))
    return found


def _segmentation(run: Run, volume: Volume, section: Section) -> list[Panel]:
    """A section of a run's segmentation, as far as it is made; of none, nothing."""
    try:
        array = open_array(run.store.path(output_of(run, volume).path("segmentation.zarr")))
        segments = section.of(array)
    except SegError:
        return []
    return [section.panel(run.name, colours.of_segments(run.config.task, segments))]
