"""Runs are archived and deleted by a job, which says the bytes first."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from tiny_project import copy_of
from tiny_run import opened

from seg_assets.definitions import definitions_of
from seg_core.lifecycle.promotion import promote
from seg_core.run import run_names
from seg_core.store import Store
from seg_core.validation.best import read_best


@pytest.fixture(scope="module")
def store(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return copy_of(finished, tmp_path_factory.mktemp("store"))


def remove(
    store: Store, instance: dg.DagsterInstance, **config: Any
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """The job, and what it said."""
    job = definitions_of(store.uri).resolve_job_def("remove_run")
    result = job.execute_in_process(
        run_config={"ops": {"remove": {"config": {"run": "tiny", **config}}}},
        instance=instance,
        raise_on_error=False,
    )
    return result, [log.user_message for log in instance.all_logs(result.run_id)]


def size(store: Store) -> int:
    return sum(p.stat().st_size for p in Path(store.path("runs")).rglob("*") if p.is_file())


@pytest.mark.slow
def test_said_archived_protected_deleted(store: Store) -> None:
    run, _ = opened(store)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("runs", ["tiny"])
        whole = size(store)
        said, lines = remove(store, instance)
        assert said.success
        assert size(store) == whole
        assert any(line.startswith("archiving run tiny frees ") for line in lines)
        assert any("nothing was removed" in line for line in lines)

        archived, lines = remove(store, instance, dry_run=False)
        assert archived.success
        freed = f"run tiny: freed {(whole - size(store)) / 1e6:,.1f} MB"
        assert freed in lines
        assert read_best(run).iteration == 12
        assert instance.get_dynamic_partitions("runs") == ["tiny"]

        promote(run, anyway=True)
        refused, _ = remove(store, instance, archive=False, dry_run=False)
        (event,) = refused.get_step_failure_events()
        assert event.step_failure_data.user_failure_data is not None
        assert "promoted" in str(event.step_failure_data.user_failure_data.description)
        assert run_names(store) == ["tiny"]

        store.remove("promoted.json")
        deleted, _ = remove(store, instance, archive=False, dry_run=False)
        assert deleted.success
        assert (run_names(store), instance.get_dynamic_partitions("runs")) == ([], [])
        assert size(store) == 0
