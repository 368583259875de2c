"""A volume of very many blocks: done ones in the store, and what Dagster wrote as it made them."""

from collections.abc import Sequence

import dagster as dg
import sqlalchemy as db
from tiny_run import make_run, make_volume

from seg_assets.partitions import RUNS, blocks_of
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record, Records
from seg_core.fragments import Fragments
from seg_core.geometry import Box
from seg_core.run import Run
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import Volume, add_volume
from seg_core.volumes.ome_zarr import ZarrArray, create

NAME = "large"
STEPS = ["prediction", "fragments", "segmentation"]
VOLUME = b"raw: raw.zarr\nblock: [1, 2, 2]\nchunk: [1, 2, 2]\n"
FIGURES = {"sub_blocks": 8.0, "seconds": 151.25, "voxels": 1.0e9, "voxels_per_second": 6.6e6}


def declare(store: Store, blocks: int) -> Volume:
    """A volume of so many blocks, of a few voxels each."""
    shape = (blocks // 100, 20, 20)
    uri = store.path(f"volumes/{NAME}/raw.zarr")
    create(ZarrArray(uri, Box.of_shape(shape), None, "uint8", (8, 8, 8), shape))
    return add_volume(store, NAME, VOLUME, "large.yaml")


def add_done_run(store: Store, volume: Volume, name: str) -> Run:
    """A run, trained on a small volume, with records of done predictions and fragments."""
    make_volume(store)
    run = make_run(store, name)
    train(run)
    validate(run)
    output = Output(store, f"{run.folder}/{volume.name}", volume)
    predictions = Records(store, output.path("blocks/prediction"))
    for key in output.grid:
        predictions.write(key, Record("done", content="c", figures=FIGURES))
    fragments = Fragments(output, run.frozen.task, run.frozen.compute.memory)
    for key, inputs in fragments.inputs().items():
        assert isinstance(inputs, dict)
        fragments.records.write(key, Record("done", inputs, "c", FIGURES))
    return run


def empty_asset(volume: Volume, name: str) -> dg.AssetsDefinition:
    """An asset of the volume's partitions that does nothing at all."""

    @dg.asset(
        key=[volume.name, name],
        partitions_def=blocks_of(volume),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def body() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=FIGURES)

    return body


def add_events(instance: dg.DagsterInstance, engine: db.Engine, volume: Volume, run: str) -> None:
    """What one dagster run over all blocks of each step leaves behind.

    Dagster makes the first block of each itself; its rows are then copied for all others.
    """
    instance.add_dynamic_partitions(str(RUNS.name), [run])
    first, *others = (f"{key}|{run}" for key in volume.grid)
    for step in STEPS:
        asset = empty_asset(volume, step)
        key = dg.MultiPartitionKey({"run": run, "block": first.split("|")[0]})
        result = dg.materialize([asset], instance=instance, partition_key=key)
        with engine.begin() as connection:
            _copy_rows(connection, result.run_id, first, others)


def _copy_rows(connection: db.Connection, run_id: str, first: str, others: Sequence[str]) -> None:
    """Rows of one partition, for the other partitions: events, then the tags of each."""
    given = {"run_id": run_id, "first": first, "others": list(others)}
    connection.execute(db.text(COPY_EVENTS), given)
    connection.execute(db.text(COPY_TAGS), given)


COPY_EVENTS = """
INSERT INTO event_logs
    (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT run_id,
    replace(replace(event, :first, key), split_part(:first, '|', 1), split_part(key, '|', 1)),
    dagster_event_type, timestamp, step_key, asset_key, key
FROM event_logs, unnest(cast(:others AS text[])) AS key
WHERE run_id = :run_id AND partition = :first ORDER BY key, id"""

COPY_TAGS = """
INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp)
SELECT made.id, tag.asset_key, tag.key,
    replace(tag.value, split_part(:first, '|', 1), split_part(made.partition, '|', 1)),
    tag.event_timestamp
FROM event_logs made
JOIN event_logs model ON model.run_id = made.run_id
    AND model.dagster_event_type = made.dagster_event_type AND model.partition = :first
JOIN asset_event_tags tag ON tag.event_id = model.id
WHERE made.run_id = :run_id AND made.partition <> :first"""
