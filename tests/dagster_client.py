"""What one does in the UI, through its GraphQL: launch, backfill, look at partitions and events."""

import json
from collections.abc import Sequence
from typing import Any

from dagster_dev import DagsterDev, wait_for

REPOSITORY = {"repositoryLocationName": "seg", "repositoryName": "__repository__"}
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
TRAINING = ("datasplit", "checkpoint", "validation_scores")

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
EVENTS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on MessageEvent { message }
  ... on MaterializationEvent { partition }
  ... on ExecutionStepFailureEvent { failureMetadata { description metadataEntries {
    label ... on MarkdownMetadataEntry { mdStr } } } } } } } }"""
PRINTED_TO = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on LogsCapturedEvent { fileKey stepKeys } } } } }"""
PRINTED = "query($key: [String!]!) { capturedLogs(logKey: $key) { stderr } }"
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status runs { runId } } } }"""
PARTITIONS = """query($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) {
  partitionStats { numMaterialized numFailed } partitionKeysByDimension { name partitionKeys }
  assetPartitionStatuses { ... on MultiPartitionStatuses { ranges {
    primaryDimStartKey primaryDimEndKey
    secondaryDim { ... on DefaultPartitionStatuses { failedPartitions } } } } } } }"""

SENSOR = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { sensorState { id ticks(limit: 1) { skipReason } } } } }"""
START_SENSOR = """mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } } }"""
STOP_SENSOR = """mutation($id: String!) {
  stopSensor(id: $id) { __typename ... on PythonError { message } } }"""
BACKFILLS = """{ partitionBackfillsOrError { ... on PartitionBackfills {
  results { id tags { key value } } } } }"""
SHOWN = """query($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) {
  ... on AssetNode { latestMaterializationByPartition(partitions: $partitions) { partition
  metadataEntries { label ... on FloatMetadataEntry { floatValue }
  ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text } } } } } }"""


class Client:
    """One volume's assets on a running `dagster dev`."""

    def __init__(self, dagster: DagsterDev, volume: str) -> None:
        self.dagster, self.volume = dagster, volume

    def _key(self, asset: str) -> dict[str, list[str]]:
        return {"path": [asset] if asset in TRAINING else [self.volume, asset]}

    def launch(
        self,
        assets: str | Sequence[str],
        tags: dict[str, str],
        config: dict[str, Any] | None = None,
    ) -> str:
        """Launch one dagster run: its number."""
        keys = [self._key(asset) for asset in ([assets] if isinstance(assets, str) else assets)]
        selector = {**REPOSITORY, "jobName": "__ASSET_JOB", "assetSelection": keys}
        metadata = {"tags": [{"key": f"dagster/{k}", "value": v} for k, v in tags.items()]}
        params = {"selector": selector, "mode": "default", "executionMetadata": metadata}
        params |= {"runConfigData": json.dumps(config or {})}
        launched = self.dagster.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def run(
        self, assets: str | Sequence[str], tags: dict[str, str]
    ) -> tuple[str, list[dict[str, Any]]]:
        """Launch one dagster run and wait for its end: status and events."""
        number = self.launch(assets, tags)
        return self.wait(number), self.events(number)

    def wait(self, number: str) -> str:
        """A dagster run's status, once it has ended."""
        return wait_for(f"dagster run {number}", lambda: self._ended(number), seconds=300)

    def terminate(self, number: str) -> None:
        """Cancel a dagster run."""
        answer = self.dagster.ask(TERMINATE, id=number)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def status(self, number: str) -> str:
        """What a dagster run is now."""
        return str(self.dagster.ask(STATUS, id=number)["runOrError"]["status"])

    def all_blocks(self, asset: str, run: str) -> dict[str, str]:
        """Tags of a dagster run of all blocks of a training run."""
        blocks = self._partitions(asset)["block"]
        ends = {"start": f"{blocks[0]}|{run}", "end": f"{blocks[-1]}|{run}"}
        return {f"asset_partition_range_{k}": v for k, v in ends.items()}

    def run_blocks(self, asset: str, run: str) -> tuple[str, list[dict[str, Any]]]:
        """The same for all blocks of a training run, in one dagster run."""
        return self.run(asset, self.all_blocks(asset, run))

    def _ended(self, run: str) -> str | None:
        status = self.status(run)
        return status if status in ENDED else None

    def events(self, run: str) -> list[dict[str, Any]]:
        """Everything that a dagster run logged."""
        found: list[dict[str, Any]] = self.dagster.ask(EVENTS, id=run)["logsForRun"]["events"]
        return found

    def printed(self, run: str) -> str:
        """What the last step of a dagster run wrote to stderr."""
        events = self.dagster.ask(PRINTED_TO, id=run)["logsForRun"]["events"]
        keys = [event["fileKey"] for event in events if event.get("stepKeys")]
        found = self.dagster.ask(PRINTED, key=[run, "compute_logs", keys[-1]])["capturedLogs"]
        return str(found["stderr"])

    def backfill(self, asset: str, partitions: Sequence[str]) -> tuple[str, list[str]]:
        """Backfill partitions and wait for the end: status, and its dagster runs."""
        return self.ended(self.launch_backfill(asset, partitions))

    def launch_backfill(self, asset: str, partitions: Sequence[str]) -> str:
        """Launch a backfill: its number."""
        params = {"assetSelection": [self._key(asset)], "partitionNames": list(partitions)}
        launched = self.dagster.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def ended(self, backfill: str, seconds: float = 300) -> tuple[str, list[str]]:
        """Wait for the end of a backfill: status, and its dagster runs."""
        return wait_for(f"backfill {backfill}", lambda: self._backfilled(backfill), seconds)

    def backfill_status(self, number: str) -> str | None:
        """How a backfill ended; None while it goes on."""
        found = self._backfilled(number)
        return found and found[0]

    def _backfilled(self, number: str) -> tuple[str, list[str]] | None:
        found = self.dagster.ask(BACKFILL_STATUS, id=number)["partitionBackfillOrError"]
        ended = found["status"].startswith(("COMPLETED", "FAILED", "CANCELED"))
        return (found["status"], [run["runId"] for run in found["runs"]]) if ended else None

    def _node(self, asset: str) -> dict[str, Any]:
        node: dict[str, Any] = self.dagster.ask(PARTITIONS, keys=[self._key(asset)])["assetNodes"][
            0
        ]
        return node

    def _partitions(self, asset: str) -> dict[str, list[str]]:
        dimensions = self._node(asset)["partitionKeysByDimension"]
        return {d["name"]: d["partitionKeys"] for d in dimensions}

    def runs(self, asset: str) -> list[str]:
        """Every partition key of an asset by run alone."""
        return self._partitions(asset)["default"]

    def partitions(self, asset: str) -> list[str]:
        """Every partition key of an asset by block."""
        found = self._partitions(asset)
        return [f"{block}|{run}" for block in found["block"] for run in found["run"]]

    def counts(self, asset: str) -> tuple[int, int]:
        """Partitions that the UI calls materialized, and failed."""
        stats = self._node(asset)["partitionStats"]
        return stats["numMaterialized"], stats["numFailed"]

    def failed(self, asset: str) -> list[str]:
        """The partitions that the UI calls failed."""
        ranges = self._node(asset)["assetPartitionStatuses"]["ranges"]
        return [
            f"{block}|{run}"
            for block in self._partitions(asset)["block"]
            for found in ranges
            if found["primaryDimStartKey"] <= block <= found["primaryDimEndKey"]
            for run in found["secondaryDim"]["failedPartitions"]
        ]

    def switch(self, sensor: str, on: bool) -> None:
        """Start or stop a sensor."""
        selector = {**REPOSITORY, "sensorName": sensor}
        if on:
            answer = self.dagster.ask(START_SENSOR, selector=selector)["startSensor"]
        else:
            number = self._sensor(sensor)["sensorState"]["id"]
            answer = self.dagster.ask(STOP_SENSOR, id=number)["stopSensor"]
        assert answer["__typename"] in ("Sensor", "StopSensorMutationResult"), answer

    def _sensor(self, sensor: str) -> dict[str, Any]:
        selector = {**REPOSITORY, "sensorName": sensor}
        found: dict[str, Any] = self.dagster.ask(SENSOR, selector=selector)["sensorOrError"]
        return found

    def tick(self, sensor: str) -> str:
        """What a sensor said last."""
        ticks = self._sensor(sensor)["sensorState"]["ticks"]
        return str(ticks[0]["skipReason"]) if ticks else ""

    def backfills_of_sensor(self) -> list[str]:
        """Backfills that a sensor started, newest first."""
        found = self.dagster.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
        return [b["id"] for b in found if {"key": "seg/by", "value": "sensor"} in b["tags"]]

    def shown(self, asset: str) -> dict[str, Any]:
        """The metadata on the page of every partition."""
        partitions = self.partitions(asset)
        found = self.dagster.ask(SHOWN, key=self._key(asset), partitions=partitions)
        events = found["assetNodeOrError"]["latestMaterializationByPartition"]
        return {event["partition"]: event["metadataEntries"] for event in events if event}
