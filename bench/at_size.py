"""The web UI and the bookkeeping of 10,000 blocks x 5 runs on Postgres, against their bounds.

It starts its own Postgres and Dagster and removes them. Measured: how long the definitions take to
load, an asset's page in Chromium to show its partitions, a backfill of blocks that are done, and
passing over them against an asset that does nothing.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster_client import Client
from dagster_dev import DagsterDev
from dagster_pages import opened
from many_blocks import NAME, STEPS, add_done_run, add_events, declare, empty_asset
from throwaway_postgres import postgres

from seg_assets.materialize import QUIET
from seg_assets.resources import StoreResource
from seg_assets.volume import volume_assets
from seg_core.blockwise.engine import Options
from seg_core.run import Run
from seg_core.segment import fragment_volume
from seg_core.store import Store
from seg_core.volumes.declared import Volume

BLOCKS, RUNS, ASKED, ROUNDS = 10_000, 5, 1_000, 3
STORAGE = "\nstorage:\n  postgres:\n    postgres_url: {url}\n"
LOAD = """
import sys, time
began = time.perf_counter()
import dagster
bare = time.perf_counter()
from seg_assets.definitions import definitions_of
definitions_of({uri!r}).get_repository_def()
assert not {{"torch", "monai", "daisy", "matplotlib"}} & set(sys.modules)
print(bare - began, time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it may be at most."""

    what: str
    value: float
    bound: float
    unit: str = "s"

    @property
    def holds(self) -> bool:
        """Whether it is below its bound."""
        return self.value < self.bound

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        return f"{verdict}  {self.what:68} {self.value:9.4g} < {self.bound:g} {self.unit}"


class AtSize(DagsterDev):
    """A `dagster dev` that keeps its records in Postgres."""

    def __init__(self, folder: Path, store: str, url: str) -> None:
        super().__init__(folder, store)
        with (self.home / "dagster.yaml").open("a") as settings:
            settings.write(STORAGE.format(url=url))

    def instance(self) -> dg.DagsterInstance:
        """The same records, for this process."""
        return dg.DagsterInstance.from_config(str(self.home))


def loading(store: Store) -> Iterator[Figure]:
    """A process that loads the definitions, against one that imports dagster."""
    code = LOAD.format(uri=store.uri)
    times = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
        times.append([float(word) for word in done.stdout.split()])
    bare, whole = (statistics.median(column) for column in zip(*times, strict=True))
    yield Figure(f"definitions load without torch (import dagster: {bare:.2f} s)", whole, 2)


def passing_over(run: Run, volume: Volume, instance: dg.DagsterInstance) -> Iterator[Figure]:
    """Blocks that are done, in one dagster run, against an asset that does nothing with them."""
    asset = next(a for a in volume_assets(volume) if a.key.path[-1] == "fragments")
    nothing = empty_asset(volume, "nothing")
    keys = list(volume.grid)[:ASKED]
    pairs = [
        tuple(_seconds(lambda a=a: _materialize(a, run, keys, instance)) for a in (asset, nothing))
        for _ in range(ROUNDS)
    ]
    ours, theirs = (statistics.median(column) / ASKED * 1000 for column in zip(*pairs, strict=True))
    times = statistics.median(a / b for a, b in pairs)
    what = f"passing over a block ({ours:.1f} ms) / an empty body ({theirs:.1f} ms)"
    yield Figure(what, times, 1.3, "times")
    alone = [_seconds(lambda: fragment_volume(run, volume, keys, Options())) for _ in range(ROUNDS)]
    own = statistics.median(alone) / ASKED * 1000
    yield Figure(f"our own work for each of {ASKED} blocks of {BLOCKS}", own, 1, "ms")


def _materialize(
    asset: dg.AssetsDefinition, run: Run, keys: list[str], instance: dg.DagsterInstance
) -> None:
    ends = {"start": keys[0], "end": keys[-1]}
    result = dg.materialize(
        [asset],
        instance=instance,
        resources={"store": StoreResource(uri=run.store.uri)},
        run_config=QUIET,
        tags={
            f"dagster/asset_partition_range_{end}": f"{key}|{run.name}" for end, key in ends.items()
        },
    )
    assert len(result.asset_materializations_for_node(asset.op.name)) == ASKED


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def pages(dagster: DagsterDev) -> Iterator[Figure]:
    """An asset's pages in Chromium, from the click to all that they show; the first visit warms."""
    client = Client(dagster, NAME)
    for step in STEPS:
        assert client.counts(step) == (BLOCKS * RUNS, 0), client.counts(step)
    with opened(dagster, "at_size") as browser:

        def partitions() -> None:
            browser.asset(f"{NAME}/prediction", "partitions")
            browser.sees(f"Materialized ({BLOCKS * RUNS})")

        def graph() -> None:
            browser.group(NAME)
            browser.sees("100% filled", len(STEPS))

        for visit in (partitions, graph):
            visit()
            browser.picture(visit.__name__)
            warm = statistics.median(_seconds(visit) for _ in range(ROUNDS))
            yield Figure(f"page in Chromium, {BLOCKS * RUNS} partitions: {visit.__name__}", warm, 3)


def backfill(dagster: DagsterDev, run: Run, volume: Volume) -> Iterator[Figure]:
    """The daemon brings blocks up to date that are done."""
    client = Client(dagster, NAME)
    keys = [f"{key}|{run.name}" for key in list(volume.grid)[:ASKED]]
    began = time.perf_counter()
    status, runs = client.backfill("fragments", keys)
    whole = (time.perf_counter() - began) / ASKED
    assert (status, len(runs)) == ("COMPLETED_SUCCESS", 1), status
    yield Figure(f"backfill of {ASKED} blocks, each, with the daemon's ticks", whole, 0.1)


def measured() -> Iterator[Figure]:
    """Every figure, on a Postgres and a store that are removed afterwards."""
    with postgres() as url, tempfile.TemporaryDirectory() as name:
        store = Store(f"{name}/store")
        volume = declare(store, BLOCKS)
        run = add_done_run(store, volume, "r0")
        yield from loading(store)
        engine = db.create_engine(url)
        dagster = AtSize(Path(name), store.uri, url)
        with dagster.instance() as instance:
            for number in range(RUNS):
                add_events(instance, engine, volume, f"r{number}")
            yield from passing_over(run, volume, instance)
        engine.dispose()
        with dagster:
            yield from pages(dagster)
            yield from backfill(dagster, run, volume)


def main() -> None:
    """Print every figure; fail where one is beyond its bound."""
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")  # as the Makefile has it
    holds = []
    for figure in measured():
        print(figure, flush=True)
        holds.append(figure.holds)
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
