"""Dagster runs as pods: none starts that cannot fit, and none is left when a run is cancelled."""

import time
from collections.abc import Callable

import dagster as dg
from dagster._core.launcher import LaunchRunContext
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster_k8s.launcher import K8sRunLauncher
from kubernetes.client.rest import ApiException

from seg_assets.kubernetes.preflight import refuse_what_does_not_fit, training_runs
from seg_assets.partitions import RUNS
from seg_core.errors import SegError
from seg_core.store import Store

TRAINING = [dg.AssetKey(name) for name in ("datasplit", "checkpoint", "validation_scores")]
GRACE = {"run_worker": 1, "step_worker": 20}  # seconds that a cancelled pod has
WORKER_SECONDS = 20  # to wait for the end of the run's own pod, which may just be starting a step


class PodRunLauncher(K8sRunLauncher):
    """Dagster's launcher for Kubernetes, which knows what a node has and ends all of a run."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the pod of a run; one of which no node could hold a step fails instead."""
        run = context.dagster_run
        runs = training_runs(run, self._instance.get_dynamic_partitions(str(RUNS.name)))
        try:
            refuse_what_does_not_fit(Store(), run.asset_selection or TRAINING, runs)
        except SegError as error:
            self._instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
            self._instance.report_run_failed(run, str(error))
            return
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: its own pod, also one that resumed it, and those of its steps."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.add_run_tags(run_id, {MAX_RETRIES_TAG: "0"})
        self._instance.report_run_canceling(run)
        self._end(run_id)
        until = time.monotonic() + WORKER_SECONDS
        while self._pods(run_id, "run_worker") and time.monotonic() < until:
            time.sleep(0.5)
        self._end(run_id)  # a step that was begun meanwhile
        now = self._instance.get_run_by_id(run_id)
        # its worker was killed before it could say so, or was just starting: then it says FAILURE
        if now and now.status not in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS):
            self._instance.report_run_canceled(now)
        return True

    def _pods(self, run_id: str, component: str) -> list[str]:
        """Pods of a run that live."""
        selector = f"dagster/run-id={run_id},app.kubernetes.io/component={component}"
        core = self._api_client.core_api
        pods = core.list_namespaced_pod(self.job_namespace, label_selector=selector).items
        return [p.metadata.name for p in pods if p.status.phase in ("Pending", "Running")]

    def _end(self, run_id: str) -> None:
        """Delete the Jobs of a run, and their pods without a long wait."""
        batch, core = self._api_client.batch_api, self._api_client.core_api
        selector, space = f"dagster/run-id={run_id}", self.job_namespace
        for job in batch.list_namespaced_job(space, label_selector=selector).items:
            # with the pods that have ended; unless said, they stay
            how = {"propagation_policy": "Background"}
            _unless_gone(batch.delete_namespaced_job, job.metadata.name, space, **how)
        for component, grace in GRACE.items():
            for pod in self._pods(run_id, component):
                _unless_gone(core.delete_namespaced_pod, pod, space, grace_period_seconds=grace)


def _unless_gone(delete: Callable[..., object], name: str, namespace: str, **how: object) -> None:
    try:
        delete(name, namespace, **how)
    except ApiException as error:
        if error.status != 404:
            raise
