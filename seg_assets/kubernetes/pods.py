"""What a step's pod asks for, where steps are pods: the one place for GPUs, memory, disk and time.

`SEG_PODS` holds the deployment's settings as YAML (k8s/base/pods.yaml). Where it is not set, steps
run in the process of their dagster run, and nothing here has an effect.
"""

import os
from typing import Any, TypedDict

import dagster as dg
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from seg_core.errors import SegError
from seg_core.pod_request import PodRequest, StepName
from seg_core.run import Run
from seg_core.schema import Strict, parse
from seg_core.volumes.declared import Volume

GPU_STEPS = ("checkpoint", "validation_scores", "prediction")
POOL = "gpu"
STEP_TAG, VOLUME_TAG = "seg/step", "seg/volume"
OVERHEAD = 1.0  # GB beside what a run's compute.memory bounds: the interpreter and its libraries


class Node(Strict):
    """What one pod can get of the largest node."""

    memory: PositiveFloat
    """GB."""
    cpu: PositiveFloat
    gpus: NonNegativeInt = 0


class Gpu(Strict):
    """How a GPU step finds its node, beside what holds for all steps; without it none has GPUs."""

    count: PositiveInt = 1
    """GPUs of a step."""
    selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []


class PodSettings(Strict):
    """What a deployment says of the pods of steps."""

    account: str | None = None
    """Service account of step pods, which needs no rights."""
    node: Node
    selector: dict[str, str] = {}
    """Labels of the nodes for steps, GPU or not."""
    tolerations: list[dict[str, str]] = []
    gpu: Gpu | None = None
    pod: PodRequest = PodRequest()
    """What every step asks for, unless volume or run say otherwise."""
    pending_seconds: PositiveInt = 600
    """A step whose pod could not start for so long fails, with the reason."""


def settings() -> PodSettings | None:
    """Those of this deployment; None where steps are no pods.

    Raises:
        SegError: `SEG_PODS` is wrong.
    """
    text = os.environ.get("SEG_PODS")
    found = parse(PodSettings, text, "SEG_PODS") if text else None
    if found and found.gpu and found.gpu.count > found.node.gpus:
        raise SegError(
            f"SEG_PODS: gpu.count is {found.gpu.count}, but node.gpus {found.node.gpus}: no node "
            "has as many; set a smaller gpu.count"
        )
    return found


class Options(TypedDict, total=False):
    """Arguments of `dg.asset`."""

    op_tags: dict[str, Any]
    pool: str | None
    retry_policy: dg.RetryPolicy


def options(step: StepName, volume: Volume | None = None) -> Options:
    """Arguments of an asset's decorator: tags of its pods, pool, and retries of pods that died."""
    if (found := settings()) is None:
        return {}
    request = _of_deployment(found, step, volume)
    told = {STEP_TAG: step} | ({VOLUME_TAG: volume.name} if volume else {})
    return {
        "op_tags": {"dagster-k8s/config": pod_config(found, request), **told},
        "pool": POOL if request.gpus else None,
        # what the user must mend is a Failure that allows none
        "retry_policy": dg.RetryPolicy(max_retries=3, delay=2),
    }


def _of_deployment(found: PodSettings, step: StepName, volume: Volume | None) -> PodRequest:
    gpus = found.gpu.count if found.gpu and step in GPU_STEPS else None
    request = found.pod.over(PodRequest(gpus=gpus))
    return volume.config.pods.get(step, PodRequest()).over(request) if volume else request


def request_of(found: PodSettings, step: StepName, run: Run, volume: Volume | None) -> PodRequest:
    """What the pod of a step asks for: as the run says, or else the volume, or else all of us."""
    compute = run.config.compute
    usual = _of_deployment(found, step, volume).over(PodRequest(memory=compute.memory + OVERHEAD))
    return compute.pods.get(step, PodRequest()).over(usual)


def pod_config(found: PodSettings, request: PodRequest) -> dict[str, Any]:
    """A request as Dagster's Kubernetes config."""
    sizes = {
        "memory": f"{request.memory * 1000:.0f}M" if request.memory else None,
        "ephemeral-storage": f"{request.disk * 1000:.0f}M" if request.disk else None,
        "nvidia.com/gpu": str(request.gpus) if request.gpus is not None else None,
    }
    limits = {name: size for name, size in sizes.items() if size is not None}
    cpu = {"cpu": f"{request.cpu * 1000:.0f}m"} if request.cpu else {}
    gpu = found.gpu if found.gpu and request.gpus else Gpu()
    pod: dict[str, Any] = {
        "node_selector": {**found.selector, **gpu.selector},
        "tolerations": [*found.tolerations, *gpu.tolerations],
    }
    if found.account:
        pod["service_account_name"] = found.account
    if request.grace:
        pod["termination_grace_period_seconds"] = request.grace
    container: dict[str, Any] = {"resources": {"requests": limits | cpu, "limits": limits}}
    if request.gpus:
        # the processes that cut crops hand them over there; a container has 64 MB of it
        pod["volumes"] = [{"name": "shm", "empty_dir": {"medium": "Memory"}}]
        container["volume_mounts"] = [{"name": "shm", "mount_path": "/dev/shm"}]
    return {"container_config": container, "pod_spec_config": pod}
