"""Steps as pods: each asks for what its training run needs, and none waits for ever in silence."""

from datetime import UTC, datetime
from typing import Any, cast

from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandlerContext,
)
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from dagster_shared.error import SerializableErrorInfo

from seg_assets.kubernetes.pods import STEP_TAG, VOLUME_TAG, PodSettings, pod_config, settings
from seg_assets.kubernetes.preflight import largest, training_runs
from seg_assets.partitions import RUNS
from seg_core.pod_request import StepName
from seg_core.store import Store

HEALTH_SECONDS = 10  # between two looks at the pods of steps: so late is it seen that one died


def steps_in_pods(config: dict[str, Any]) -> StepDelegatingExecutor:
    """Every step is a pod of its own, which asks for what run and volume say.

    Args:
        config: the executor's, in the launchpad (see `seg_assets.executor`).
    """
    steps = PodSteps(
        image=None,
        container_context=K8sContainerContext(),
        load_incluster_config=True,
        kubeconfig_file=None,
        per_step_k8s_config=config["per_step_k8s_config"],
    )
    return StepDelegatingExecutor(
        steps,
        retries=RetryMode.from_config(config["retries"]) or RetryMode.ENABLED,
        max_concurrent=config.get("max_concurrent"),
        check_step_health_interval_seconds=HEALTH_SECONDS,
        should_verify_step=True,
    )


class PodSteps(K8sStepHandler):
    """Dagster's own, with what a training run says of its steps, and an end to waiting."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        found = settings()
        assert found is not None, "SEG_PODS reaches run pods by seg-settings"
        self.settings: PodSettings = found

    def _get_container_context(
        self, step_handler_context: StepHandlerContext
    ) -> K8sContainerContext:
        usual = super()._get_container_context(step_handler_context)
        step_key = self._get_step_key(step_handler_context)
        tags = step_handler_context.step_tags[step_key]
        op = step_handler_context.get_step_context(step_key).step.op_name
        if STEP_TAG not in tags or op in self._per_step_k8s_config:
            return usual  # what the launchpad says stands
        run, instance = step_handler_context.dagster_run, step_handler_context.instance
        runs = training_runs(run, instance.get_dynamic_partitions(str(RUNS.name)))
        step, volume = cast(StepName, tags[STEP_TAG]), tags.get(VOLUME_TAG)
        config = pod_config(self.settings, largest(self.settings, Store(), step, volume, runs))
        asked = UserDefinedDagsterK8sConfig.from_dict(config)
        return usual.merge(K8sContainerContext(run_k8s_config=asked))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """As Dagster's; a step whose pod could not start in time fails, and is not tried again."""
        health = super().check_step_health(step_handler_context)
        if health.is_healthy and (why := self._cannot_start(step_handler_context)):
            list(self.terminate_step(step_handler_context))
            step_key = self._get_step_key(step_handler_context)
            sentence = (
                f"the pod of {step_key} could not start within {self.settings.pending_seconds} s: "
                f"{why}"
            )
            DagsterEvent.step_failure_event(
                step_handler_context.get_step_context(step_key),
                StepFailureData(
                    SerializableErrorInfo(sentence, [], None),
                    UserFailureData("could not start", sentence),
                ),
            )
        return health

    def _cannot_start(self, context: StepHandlerContext) -> str | None:
        """Why a pod has not started, once that has lasted too long."""
        job, namespace = self._get_k8s_step_job_name(context), self._namespace(context)
        core = self._api_client.core_api
        pods = core.list_namespaced_pod(namespace, label_selector=f"job-name={job}").items
        if any(pod.status.phase != "Pending" for pod in pods):
            return None
        status = self._api_client.get_job_status(job, namespace)
        since = pods[0].metadata.creation_timestamp if pods else status and status.start_time
        if since is None or _seconds(since) < self.settings.pending_seconds:
            return None
        return _reason(pods[0]) if pods else self._why_forbidden(job, namespace)

    def _namespace(self, context: StepHandlerContext) -> str:
        return str(self._get_container_context(context).namespace)

    def _why_forbidden(self, job: str, namespace: str) -> str:
        selector = f"involvedObject.name={job},type=Warning"
        events = self._api_client.core_api.list_namespaced_event(namespace, field_selector=selector)
        return events.items[-1].message if events.items else "no pod was made of its Job"


def _seconds(since: datetime) -> float:
    return (datetime.now(UTC) - since).total_seconds()


def _reason(pod: Any) -> str:
    """What Kubernetes says of a pod that is pending."""
    for container in pod.status.container_statuses or []:
        if container.state.waiting:
            waiting = container.state.waiting
            return f"{waiting.reason}: {waiting.message or 'no reason given'}"
    for condition in pod.status.conditions or []:
        if condition.status == "False" and condition.message:
            return str(condition.message)
    return "it is pending, without a reason given"
