"""Where steps run: in pods where the deployment says so, else in their dagster run's process."""

import dagster as dg

from seg_assets.kubernetes.pods import settings


def executor() -> dg.ExecutorDefinition:
    """Steps as pods, or in the process of their dagster run."""
    if settings() is None:
        # a dagster run is one step as a rule: a process of its own would import torch once more
        return dg.in_process_executor
    from seg_assets.kubernetes.executor import pod_executor

    return pod_executor
