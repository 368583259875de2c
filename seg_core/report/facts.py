"""What is told of a run on a volume beside scores and pictures: state, time, settings, versions."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import BlockState, Record, Records
from seg_core.lut import read_table
from seg_core.run import Run
from seg_core.validation.best import Best
from seg_core.verdicts import read_verdicts

PACKAGES = ("seg", "torch", "monai", "numpy", "zarr", "tensorstore", "daisy", "dagster")
NAMED = 8  # blocks of a warning

States = dict[str, dict[str, BlockState]]


def parameters_of(output: Output, best: Best) -> dict[str, Any]:
    """The best parameters, those that the look-up table was made with, and which of them differ."""
    table = read_table(output)
    used = table.parameters if table else best.parameters
    differ = [name for name in used if used[name] != best.parameters.get(name)]
    return {"best": best.parameters, "used": used, "differ": differ}


def warnings_of(states: States, table: BlockState) -> list[str]:
    """A sentence for every step that is not up to date."""
    found = []
    for step, blocks in states.items():
        bad = {k: s for k, s in blocks.items() if s.state not in ("done", "skipped")}
        if bad:
            named = [
                f"{key} ({s.state}{': ' + s.reason if s.reason else ''})"
                for key, s in list(bad.items())[:NAMED]
            ]
            more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            found.append(
                f"{len(bad)} of {len(blocks)} {step} blocks are not up to date: "
                f"{'; '.join(named)}{more}"
            )
    if table.state != "done":
        found.append(f"the look-up table is {table.state}: {table.reason}")
    return found


def steps_of(output: Output) -> dict[str, dict[str, float]]:
    """Blocks, seconds, voxels per second and peak memory of every step: measurements."""
    steps = {
        step: _step(Records(output.store, output.path(f"blocks/{step}")).read_all())
        for step in ("prediction", "fragments", "segmentation")
    }
    if table := read_table(output):
        lut = {"blocks": len(table.slices), "seconds": table.figures["seconds"]}
        steps = {**{k: steps[k] for k in ("prediction", "fragments")}, "lut": lut, **steps}
    return steps


def _step(records: dict[str, Record]) -> dict[str, float]:
    figures = [record.figures for record in records.values()]
    seconds, voxels = (sum(f.get(name, 0) for f in figures) for name in ("seconds", "voxels"))
    step = {"blocks": len(records), "seconds": seconds}
    if seconds:
        step["voxels_per_second"] = voxels / seconds
    if peaks := [f["peak_memory_mb"] for f in figures if "peak_memory_mb" in f]:
        step["peak_memory_mb"] = max(peaks)
    return step


def by_block(states: States, figure: str) -> dict[str, NDArray[np.float64]]:
    """A figure of every block of every step, blocks in C order; nan where a record has none."""
    series = {
        step: np.array([s.record.figures.get(figure, np.nan) for s in blocks.values()])
        for step, blocks in states.items()
    }
    return {step: values for step, values in series.items() if np.isfinite(values).any()}


def verdicts_of(run: Run, output: Output) -> list[dict[str, Any]]:
    """What checks of the run and of the run on the volume found."""
    folders = (run.folder, output.folder)
    found = [v for f in folders for v in read_verdicts(run.store, f).values()]
    return [
        {
            "check": v.check,
            "passed": v.passed,
            "severity": v.severity,
            "sentence": v.sentence,
            "figures": v.figures,
        }
        for v in found
    ]


def settings_of(run: Run, output: Output) -> dict[str, str]:
    """The run's and the volume's settings with every default, as YAML."""
    config = run.frozen.model_dump(mode="json", by_alias=True)
    volume = output.volume.config.model_dump(mode="json")
    return {
        f"run {run.name}": _yaml(config),
        f"volume {output.volume.name}": _yaml(volume),
    }


def _yaml(content: Any) -> str:
    # None: short lists in one line, as people write them
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=90)


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what is computed and how, where they are there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
