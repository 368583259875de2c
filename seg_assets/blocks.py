"""One dagster run over many blocks: each is recorded as it ends, and a bad one stops only itself.

A step of `seg_core` passes over what is done. Dagster is told of those blocks too, with the
figures that they had: it asked for them, and takes what it does not hear of for failed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
)
from dagster._utils.merger import merge_dicts

from seg_assets.failures import failure, sentence_of
from seg_core.blockwise.records import Record, Records
from seg_core.errors import BlocksFailed, Busy, SegError
from seg_core.store import Store

if TYPE_CHECKING:
    from seg_core.blockwise.engine import Options, Outcome
    from seg_core.run import Run
    from seg_core.volumes.declared import Volume

Metadata: TypeAlias = dict[str, float | str]
Step: TypeAlias = "Callable[[Run, Volume, list[str] | None, Options], Outcome]"


def make_blocks(
    context: dg.AssetExecutionContext, store: Store, volume: str, step: Step, force: str
) -> dg.MaterializeResult[None]:
    """Bring the blocks of this dagster run up to date, whichever training runs they belong to.

    Raises:
        Failure: some could not be made; all others are done and recorded.
    """
    parts = [_Part(context, run, blocks) for run, blocks in _by_run(context).items()]
    failed: dict[str, str] = {}
    for part in parts:
        failed |= part.make(store, volume, step, force)
    for part in parts:
        part.tell_rest(at_success=not failed)
    if failed:
        raise failure(sentence_of(failed), failed, again=any(part.busy for part in parts))
    return dg.MaterializeResult()


def _by_run(context: dg.AssetExecutionContext) -> dict[str, dict[str, str]]:
    """Partition keys by run and block."""
    found: dict[str, dict[str, str]] = {}
    for partition in context.partition_keys:
        assert isinstance(partition, dg.MultiPartitionKey)
        key = partition.keys_by_dimension
        found.setdefault(key["run"], {})[key["block"]] = partition
    return found


class _Part:
    """The blocks of one training run among those that Dagster asked for."""

    def __init__(
        self, context: dg.AssetExecutionContext, run: str, partitions: dict[str, str]
    ) -> None:
        self.context, self.run, self.partitions = context, run, partitions
        self.done: dict[str, Record] = {}
        self.told: set[str] = set()
        self.busy = False

    def make(self, store: Store, volume: str, step: Step, force: str) -> dict[str, str]:
        """Bring the blocks up to date; returns why some are not, by partition key."""
        failed: dict[str, str] = {}
        try:
            self._step(store, volume, step, force)
        except BlocksFailed as error:
            failed, self.busy = error.failed, bool(error.busy)
        except SegError as error:  # none can be made, or none after those that are done
            self.busy = isinstance(error, Busy)
            return {p: str(error) for key, p in self.partitions.items() if key not in self.done}
        self._read_rest(store, volume, failed)
        return {self.partitions[key]: why for key, why in failed.items()}

    def _step(self, store: Store, volume: str, step: Step, force: str) -> None:
        from seg_core.blockwise.engine import Options
        from seg_core.run import load_run
        from seg_core.volumes.declared import load_volume

        run = load_run(store, self.run)
        options = Options(run.frozen.compute.workers, force, self._ended)
        step(run, load_volume(store, volume), list(self.partitions), options)

    def _ended(self, key: str, record: Record) -> None:
        """Tell Dagster of a block at once: it is known though the process be killed after it."""
        if record.state == "failed":
            self.context.log.error(f"{self.partitions[key]} failed: {record.error}")
            self._tell_why(key, record)
        else:
            self.done[key] = record
            self._tell(key)

    def _tell_why(self, key: str, record: Record) -> None:
        """On the page of the block's partition, which else says only that it failed."""
        observation = dg.AssetObservation(
            self.context.asset_key,
            description=record.error,
            metadata={"why it failed": record.error, "tries": record.tries},
            partition=self.partitions[key],
        )
        self.context.log_event(observation)

    def _tell(self, key: str) -> None:
        self.told.add(key)
        event = dg.AssetMaterialization(
            self.context.asset_key,
            metadata=_metadata(self.done[key]),
            partition=self.partitions[key],
        )
        self.context.log_event(event)

    def _read_rest(self, store: Store, volume: str, failed: dict[str, str]) -> None:
        """What the blocks showed that were passed over."""
        stage = self.context.asset_key.path[-1]
        folder = f"runs/{self.run}/{volume}/blocks/{stage}"
        records = Records(store, folder).read_some(self.partitions)
        outside = Record("skipped")  # the mask leaves no record
        self.done = {k: records.get(k, outside) for k in self.partitions if k not in failed}

    def tell_rest(self, at_success: bool) -> None:
        """Tell of the blocks passed over; at success Dagster records every block by itself."""
        if at_success:
            shown = {self.partitions[k]: _metadata(record) for k, record in self.done.items()}
            _show_at_success(self.context, shown)
            return
        for key in self.done:
            if key not in self.told:
                self._tell(key)


def _show_at_success(context: dg.AssetExecutionContext, shown: Mapping[str, Metadata]) -> None:
    """What each partition's event will show: `context.add_asset_metadata` for all at once.

    That method lists the volume's partitions of all runs for every block, and asks the database
    twice: more than half of the time of passing over 1,000 blocks on Postgres.
    """
    step = context.get_step_execution_context()
    added = {
        AssetMetadataHandle(asset_key=context.asset_key, partition_key=key): metadata
        for key, metadata in shown.items()
    }
    all_shown = merge_dicts(step._metadata_accumulator.per_output_metadata, added)
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=all_shown)


def _metadata(record: Record) -> Metadata:
    if record.state == "skipped":
        return {"state": "skipped: outside the mask"}
    return {**record.figures, "content": record.content}
