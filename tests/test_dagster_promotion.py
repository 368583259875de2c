"""Promotion as an asset: compared, recorded as a check, told to a webhook; and retraining."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType
from tiny_run import RUN, make_run, make_volume
from webhook_receiver import receiver

from seg_assets.definitions import definitions_of
from seg_assets.messages import tell_failed_retraining
from seg_core.lifecycle.promotion import promoted, read_history
from seg_core.run import add_run
from seg_core.store import Store

WORSE = RUN.replace("iterations: 12", "iterations: 12, learning_rate: 1.0e-9")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    make_volume(store)
    make_run(store)
    add_run(store, "worse", WORSE.encode(), "worse.yaml")
    return store


def make(store: Store, instance: dg.DagsterInstance, run: str) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions("runs", [run])
    job = definitions_of(store.uri).resolve_job_def("retrain_run")
    return job.execute_in_process(partition_key=run, instance=instance, raise_on_error=False)


def look_at_failure(instance: dg.DagsterInstance, failed: dg.ExecuteInProcessResult) -> None:
    """What the sensor does once Dagster has seen that a run failed."""
    (event,) = (e for e in failed.all_events if e.event_type == DagsterEventType.RUN_FAILURE)
    tell_failed_retraining(
        dg.build_run_status_sensor_context(
            "tell_failed_retraining", event, instance, failed.dagster_run
        ).for_run_failure()
    )


def comparison(instance: dg.DagsterInstance, run: str) -> dg.AssetCheckEvaluation:
    """What the check said, as it is stored."""
    (found,) = (
        log.get_dagster_event().asset_check_evaluation_data
        for log in instance.all_logs(run, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        if "no_regression" in log.user_message
    )
    return found


@pytest.mark.slow
def test_a_run_is_promoted_unless_it_is_worse(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance, receiver() as (url, told):
        monkeypatch.setenv("SEG_WEBHOOK", url)
        first = make(store, instance, "tiny")
        assert first.success
        found = comparison(instance, first.run_id)
        assert (found.passed, found.partition) == (True, "tiny")
        assert promoted(store) == "tiny"
        assert told == []

        second = make(store, instance, "worse")
        assert [e.step_key for e in second.get_step_failure_events()] == ["promotion"]
        found = comparison(instance, second.run_id)
        assert (found.passed, found.partition) == (False, "worse")
        assert found.metadata["promoted"].value == "tiny"
        assert (promoted(store), [h["run"] for h in read_history(store)]) == ("tiny", ["tiny"])
        assert [(t["event"], t["run"]) for t in told] == [("not_promoted", "worse")]
        assert "run worse is not promoted: run worse has voi_sum" in told[0]["text"]
        look_at_failure(instance, second)
        assert len(told) == 1

        asset = definitions_of(store.uri).resolve_assets_def("promotion")
        config = {"ops": {"promotion": {"config": {"anyway": True}}}}
        forced = dg.materialize(
            [asset], partition_key="worse", instance=instance, run_config=config
        )
        assert forced.success
        assert promoted(store) == "worse"
        back = definitions_of(store.uri).resolve_job_def("roll_back")
        assert back.execute_in_process(instance=instance).success
        assert promoted(store) == "tiny"
        event = instance.get_latest_materialization_event(dg.AssetKey("promotion"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.partition == "tiny"
        assert not back.execute_in_process(instance=instance, raise_on_error=False).success


def test_a_run_that_fails_before_its_promotion_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = definitions_of(store.uri).resolve_sensor_def("tell_failed_retraining")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    store.remove("volumes/phantom/labels.zarr")
    with dg.DagsterInstance.ephemeral() as instance, receiver() as (url, told):
        monkeypatch.setenv("SEG_WEBHOOK", url)
        failed = make(store, instance, "tiny")
        assert told == []
        look_at_failure(instance, failed)
    (one,) = told
    assert (one["event"], one["run"]) == ("retrain_failed", "tiny")
    assert one["failed_steps"] == ["datasplit"]
    assert one["dagster_run"] == failed.run_id
    assert one["text"].startswith("Run tiny was not retrained: datasplit: ")
    assert "labels.zarr" in one["text"]


def tick(store: Store, instance: dg.DagsterInstance, hour: int) -> dg.RunRequest | dg.SkipReason:
    schedule = definitions_of(store.uri).resolve_schedule_def("retrain")
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=datetime(2026, 11, 24, hour, tzinfo=UTC),
        resources={"store": store},
    )
    found = schedule(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def test_without_a_config_nothing_is_retrained(store: Store) -> None:
    with dg.instance_for_test() as instance:
        found = tick(store, instance, 3)
    assert isinstance(found, dg.SkipReason)
    assert "there is no" in str(found.skip_message)


def test_the_schedule_asks_for_a_new_run_once(store: Store) -> None:
    store.write_bytes("retrain.yaml", b"template: tiny\ncron: '0 3 * * *'\ntolerance: 0.05\n")
    schedule = definitions_of(store.uri).resolve_schedule_def("retrain")
    assert schedule.cron_schedule == "0 3 * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.instance_for_test() as instance:
        found = tick(store, instance, 3)
        assert isinstance(found, dg.RunRequest)
        assert found.partition_key == "tiny-20261124-0300"
        assert instance.get_dynamic_partitions("runs") == ["tiny-20261124-0300"]
        # one that came to no best is launched again, unless Dagster is at it
        again = tick(store, instance, 4)
        assert isinstance(again, dg.RunRequest)
        assert again.partition_key == found.partition_key
        assert again.run_key != found.run_key
        assert tick(store, instance, 4) == again
        job = definitions_of(store.uri).resolve_job_def("retrain_run")
        queued = instance.create_run_for_job(
            job, tags={"dagster/partition": str(found.partition_key)}
        )
        skipped = tick(store, instance, 5)
        assert isinstance(skipped, dg.SkipReason)
        assert queued.run_id in str(skipped.skip_message)
        instance.report_run_canceled(queued)
        assert isinstance(tick(store, instance, 5), dg.RunRequest)


@pytest.mark.parametrize("cron", ["hourly", "0 0 31 2 *", "*/00 3 * * *"])
def test_a_wrong_config_is_told_and_takes_nothing_away(store: Store, cron: str) -> None:
    store.write_bytes("retrain.yaml", f"template: tiny\ncron: '{cron}'\n".encode())
    definitions = definitions_of(store.uri)
    dg.Definitions.validate_loadable(definitions)
    schedule = definitions.resolve_schedule_def("retrain")
    assert "cron" in str(schedule.description)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
