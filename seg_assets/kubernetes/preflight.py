"""What no pod could do is refused before the first one starts."""

import runpy
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast, get_args

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from seg_assets.kubernetes.pods import GPU_STEPS, PodSettings, request_of, settings
from seg_core.errors import SegError
from seg_core.pod_request import PodRequest, StepName
from seg_core.run import Run, load_run
from seg_core.store import Store
from seg_core.volumes.declared import load_volume


def training_runs(run: dg.DagsterRun, known: Sequence[str]) -> list[str]:
    """The training runs that a dagster run is about, from its tags.

    Args:
        run: of Dagster.
        known: all training runs, in the order of Dagster's partitions.
    """
    range_tags = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
    tags = range_tags if range_tags[0] in run.tags else (PARTITION_NAME_TAG,)
    ends = [run.tags[tag].split("|")[-1] for tag in tags if tag in run.tags]
    if len(ends) == 2 and set(ends) <= set(known):
        return list(known[known.index(ends[0]) : known.index(ends[1]) + 1])
    return list(dict.fromkeys(ends))


def largest(
    found: PodSettings, store: Store, step: StepName, volume_name: str | None, runs: Sequence[str]
) -> PodRequest:
    """What the pod asks for that makes a step for several training runs: the most of each.

    Raises:
        SegError: there is no such run or volume, or it does not fit into any node.
    """
    volume = load_volume(store, volume_name) if volume_name else None
    most = PodRequest()
    for name in runs:
        run = load_run(store, name)
        request = request_of(found, step, run, volume)
        _refuse(found, step, run, request)
        sizes = request.model_dump(exclude_none=True).items()
        most = PodRequest(**{k: max(v, getattr(most, k) or v) for k, v in sizes})
    return most


def refuse_what_does_not_fit(
    store: Store, assets: Iterable[dg.AssetKey], runs: Sequence[str]
) -> None:
    """Check a dagster run before any pod of it starts.

    Raises:
        SegError: a GPU is asked for where there is none, or more of anything than a node has.
    """
    if found := settings():
        for key in assets:
            *volume, step = key.path
            if step in get_args(StepName):
                largest(found, store, cast(StepName, step), volume[0] if volume else None, runs)


def _refuse(found: PodSettings, step: StepName, run: Run, request: PodRequest) -> None:
    what = f"{step} of run {run.name}"
    if run.config.compute.device == "cuda" and step in GPU_STEPS:
        if not request.gpus:
            raise SegError(
                f"{what} asks for a GPU (compute.device is cuda), but this deployment gives it "
                "none; set compute.device to auto or cpu, or gpu in k8s/base/pods.yaml"
            )
        if not torch_has_cuda():
            raise SegError(
                f"{what} asks for a GPU (compute.device is cuda), but the image holds a torch "
                "built for CPUs; build the image for CUDA, or set compute.device to auto or cpu"
            )
    for name, unit in (("gpus", "GPU(s)"), ("memory", "GB of memory"), ("cpu", "core(s)")):
        asked, there = getattr(request, name) or 0, getattr(found.node, name)
        if asked > there:
            raise SegError(
                f"{what} asks for {asked:g} {unit}, but the largest node gives a pod {there:g}; "
                f"ask for less in the run's file (compute), or use larger nodes"
            )


def torch_has_cuda() -> bool:
    """Whether the torch of this image was built for CUDA; found without importing it."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return runpy.run_path(str(Path(spec.origin).with_name("version.py")))["cuda"] is not None
