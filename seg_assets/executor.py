"""Where steps run: in pods where the deployment says so, else in their dagster run's process."""

from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.execution.retries import get_retries_config

from seg_assets.kubernetes.pods import settings

PARTS = (
    *("container_config", "pod_spec_config", "pod_template_spec_metadata"),
    *("job_config", "job_metadata", "job_spec_config"),
)
MERGING = dg.Enum("Merging", [dg.EnumValue("DEEP"), dg.EnumValue("SHALLOW")])
# as dagster-k8s has it, which takes half a second to import: each part is checked by its use
OF_A_POD = {
    **{part: dg.Permissive() for part in PARTS},
    "merge_behavior": dg.Field(MERGING, is_required=False),
}
CONFIG = {
    "retries": get_retries_config(),
    "max_concurrent": dg.Field(dg.IntSource, is_required=False),
    "per_step_k8s_config": dg.Field(
        dg.Map(str, dg.Shape(OF_A_POD)),
        default_value={},
        description="By op, as in phantom__prediction: said here, it holds for this dagster run.",
    ),
}


def executor() -> dg.ExecutorDefinition:
    """Steps as pods, or in the process of their dagster run."""
    if settings() is None:
        # a dagster run is one step as a rule: a process of its own would import torch once more
        return dg.in_process_executor
    return pod_executor


@dg.executor(
    name="pods", config_schema=CONFIG, requirements=multiple_process_executor_requirements()
)
def pod_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Every step is a pod of its own."""
    # here: the pods of the steps, which load these definitions too, need nothing of Kubernetes
    from seg_assets.kubernetes.executor import steps_in_pods

    config: dict[str, Any] = context.executor_config  # type: ignore[assignment]
    return steps_in_pods(config)
