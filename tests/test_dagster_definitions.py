"""The definitions without a daemon: what is served, and what each asset does in this process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from tiny_run import RUN, VOLUME, files_of, make_run, make_volume, middle_chunk, unreadable

from seg_assets.__main__ import commands
from seg_assets.automation import register_runs
from seg_assets.checks import DATASPLIT, PREDICTION, SEGMENTATION
from seg_assets.definitions import definitions_of
from seg_assets.failures import NAMED, sentence_of
from seg_assets.home import open_instance
from seg_assets.training import CHECKPOINT_KEY, DATASPLIT_KEY
from seg_core.blockwise.engine import Options, Outcome
from seg_core.blockwise.records import Record
from seg_core.run import Run, add_run
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import Volume

OWNER = "team:segmentation"
TRAINING = {"datasplit", "checkpoint", "validation_scores", "promotion"}
STEPS = {"raw", "labels", "prediction", "fragments", "lut", "segmentation", "report"}
PODS = Path(__file__).parent.parent / "k8s/base/pods.yaml"
HEAVY = {"torch", "monai", "daisy", "matplotlib", "pandas", "numba", "scipy", "skimage", "cc3d"}
FIRST, LAST = "z0000y0000x0000", "z0000y0001x0001"  # of the 4 blocks of a section


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two volumes; one run is trained and validated, another was only added."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    make_volume(store, "more-data")
    make_run(store, "later")
    run = make_run(store)
    train(run)
    validate(run)
    return store


def keys_of(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_all_asset_keys()}


def make_section(
    store: Store, instance: dg.DagsterInstance, *runs: str, force: bool = False
) -> dg.ExecuteInProcessResult:
    """Prediction of the first 4 blocks for some runs, in one dagster run."""
    asset = definitions_of(store.uri).resolve_assets_def(dg.AssetKey(["more-data", "prediction"]))
    instance.add_dynamic_partitions("runs", list(runs))
    ends = {"start": f"{FIRST}|{runs[0]}", "end": f"{LAST}|{runs[-1]}"}
    return dg.materialize(
        [asset],
        instance=instance,
        tags={f"dagster/asset_partition_range_{end}": key for end, key in ends.items()},
        run_config={"ops": {asset.op.name: {"config": {"force": force}}}},
        raise_on_error=False,
    )


def materialized(result: dg.ExecuteInProcessResult) -> set[str | None]:
    return {event.partition for event in result.all_events if event.is_step_materialization}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return str(failure.description)


@pytest.mark.parametrize("pods", ["", PODS.read_text()])
def test_loading_imports_nothing_that_only_steps_need(store: Store, pods: str) -> None:
    code = (
        "import sys, json; from seg_assets.definitions import definitions_of; "
        f"definitions_of({store.uri!r}).get_repository_def(); print(json.dumps(list(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "SEG_PODS": pods},
    )
    modules = set(json.loads(found.stdout))
    assert "seg_core.volumes.declared" in modules
    assert modules.isdisjoint(HEAVY | {"kubernetes"})


def test_without_volumes_only_training_is_served(empty: Store) -> None:
    assert keys_of(definitions_of(empty.uri)) == TRAINING


def test_a_volume_is_a_family(store: Store) -> None:
    definitions = definitions_of(store.uri)
    dg.Definitions.validate_loadable(definitions)
    families = {f"{volume}/{step}" for volume in ("phantom", "more-data") for step in STEPS}
    assert keys_of(definitions) == TRAINING | families
    nodes = definitions.resolve_asset_graph()
    prediction, fragments, lut = (
        nodes.get(dg.AssetKey(["more-data", step])) for step in ("prediction", "fragments", "lut")
    )
    assert prediction.group_name == "more_data"
    assert prediction.backfill_policy != fragments.backfill_policy  # else one run for both
    assert isinstance(prediction.partitions_def, dg.MultiPartitionsDefinition)
    assert isinstance(lut.partitions_def, dg.DynamicPartitionsDefinition)
    for node in nodes.asset_nodes:
        assert (node.owners, bool(node.description), bool(node.kinds)) == ([OWNER], True, True)


def test_raw_data_and_labels_are_observed(store: Store) -> None:
    definitions = definitions_of(store.uri)
    graph = definitions.resolve_asset_graph()
    raw, labels = (dg.AssetKey(["phantom", name]) for name in ("raw", "labels"))
    assert graph.get(dg.AssetKey("datasplit")).parent_keys >= {raw, labels}
    assert raw in graph.get(dg.AssetKey(["phantom", "prediction"])).parent_keys
    versions = [observe(definitions, raw, labels)]
    versions.append(observe(definitions, raw, labels))
    middle_chunk(store, FIRST).touch()
    versions.append(observe(definitions, raw, labels))
    assert versions[0] == versions[1]
    assert versions[2][0] != versions[0][0]
    assert versions[2][1] == versions[0][1]


def observe(definitions: dg.Definitions, *keys: dg.AssetKey) -> list[str]:
    """Data versions of sources, as the job of every night records them."""
    job = definitions.resolve_job_def("observe_volumes")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, asset_selection=list(keys)).success
        records = [instance.fetch_observations(key, limit=1).records[0] for key in keys]
    observations = [r.asset_observation for r in records]
    assert all(o and o.metadata["voxels"].value == 120 * 48 * 48 for o in observations)
    return [o.tags["dagster/data_version"] for o in observations if o]


def test_a_broken_volume_takes_away_only_itself(
    empty: Store, caplog: pytest.LogCaptureFixture
) -> None:
    make_volume(empty, "good_one")
    make_volume(empty, "good-one")  # a step's name holds no -
    empty.write_bytes("volumes/typo.yaml", b"row: raw.zarr")
    empty.write_bytes("volumes/gone.yaml", VOLUME.encode())
    empty.write_bytes("volumes/Capital.yaml", VOLUME.encode())
    definitions = definitions_of(empty.uri)
    dg.Definitions.validate_loadable(definitions)
    assert keys_of(definitions) == TRAINING | {f"good-one/{step}" for step in STEPS}
    for name in ("typo", "gone", "Capital", "good_one"):
        assert f"volume {name} is left out of the assets: " in caplog.text


def test_every_run_file_becomes_a_partition(empty: Store) -> None:
    for name in ("one", "two", "Not a name|"):
        empty.write_bytes(f"runs/{name}.yaml", b"")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("runs", ["one", "removed"])
        context = dg.build_sensor_context(instance, resources={"store": empty})
        result = register_runs(context)
        assert isinstance(result, dg.SensorResult)
        assert result.dynamic_partitions_requests
        (request,) = result.dynamic_partitions_requests
        assert isinstance(request, dg.AddDynamicPartitionsRequest)
        assert request.partition_keys == ["two"]
        instance.add_dynamic_partitions("runs", ["two"])
        assert isinstance(register_runs(context), dg.SkipReason)


def test_after_a_failed_check_nothing_that_hangs_from_it_starts(empty: Store) -> None:
    make_volume(empty)
    leak = RUN.replace("'60:120, :, :'", "'50:120, :, :'")
    add_run(empty, "leaky", leak.encode(), "leaky.yaml")
    definitions = definitions_of(empty.uri)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("runs", ["leaky"])
        job = definitions.resolve_job_def("train_run")
        whole = job.execute_in_process(
            partition_key="leaky", instance=instance, raise_on_error=False
        )
        checks = {e.check_name: e for e in whole.get_asset_check_evaluations()}
        assert {name: e.passed for name, e in checks.items()} == dict.fromkeys(DATASPLIT, True) | {
            "no_leak": False
        }
        assert (checks["no_leak"].partition, checks["no_leak"].blocking) == ("leaky", True)
        assert checks["no_leak"].description
        assert [e.step_key for e in whole.get_step_failure_events()] == ["datasplit"]
        started = [e.step_key for e in whole.all_events if e.event_type_value == "STEP_START"]
        assert started == ["datasplit"]
        assert instance.get_materialized_partitions(DATASPLIT_KEY) == {"leaky"}
        # a backfill's next level is a run of its own, which no blocking check stops
        alone = job.execute_in_process(
            partition_key="leaky",
            instance=instance,
            asset_selection=[CHECKPOINT_KEY],
            raise_on_error=False,
        )
    assert checks["no_leak"].description in failure_of(alone)
    assert not empty.exists("runs/leaky/checkpoints")


def test_one_dagster_run_over_blocks_of_several_runs(store: Store) -> None:
    key = dg.AssetKey(["more-data", "prediction"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = make_section(store, instance, "later", "tiny")
        made = instance.get_materialized_partitions(key)
    assert not result.success
    assert made == {f"z0000y000{y}x000{x}|tiny" for y in (0, 1) for x in (0, 1)}
    assert failure_of(result).startswith("4 block(s) failed")
    assert f"{LAST}|later: run later has no best checkpoint yet" in failure_of(result)


def test_what_is_done_is_passed_over_and_shown(store: Store) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        make_section(store, instance, "tiny")
        before = files_of(store, "tiny", "more-data")
        again = make_section(store, instance, "tiny")
        assert len(materialized(again)) == 4
        key = dg.AssetKey(["more-data", "prediction"])
        event = instance.get_latest_materialization_event(key)
    assert files_of(store, "tiny", "more-data") == before
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["voxels"].value == 24**3


def test_forced_blocks_are_made_again(store: Store) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        make_section(store, instance, "tiny")
        before = files_of(store, "tiny", "more-data")
        assert make_section(store, instance, "tiny", force=True).success
    now = files_of(store, "tiny", "more-data")
    records = {name for name in now if name.startswith("blocks/prediction/")}
    assert {name for name in records if now[name] != before[name]} == records


def test_a_bad_block_among_those_that_are_done(store: Store) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        make_section(store, instance, "tiny")
    with dg.DagsterInstance.ephemeral() as instance:
        with unreadable(store, [LAST], "more-data"):  # newly written, so the block is stale
            result = make_section(store, instance, "tiny")
        made = instance.get_materialized_partitions(dg.AssetKey(["more-data", "prediction"]))
    assert len(made) == 3
    assert failure_of(result).startswith(f"1 block(s) failed, all others are done. {LAST}|tiny: ")


def test_a_block_is_known_though_the_process_dies_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(_run: Run, _volume: Volume, keys: list[str], options: Options) -> Outcome:
        assert options.on_block
        options.on_block(keys[0], Record("done"))
        raise MemoryError

    monkeypatch.setattr("seg_core.segment.predict_volume", step)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not make_section(store, instance, "tiny").success
        made = instance.get_materialized_partitions(dg.AssetKey(["more-data", "prediction"]))
    assert made == {f"{FIRST}|tiny"}


def test_many_reasons_make_a_short_sentence() -> None:
    reasons = {f"b{number}|r": "no prediction" for number in range(NAMED + 5)}
    sentence = sentence_of({**reasons, "b0|r": "disk full"})
    assert sentence.startswith("25 block(s) failed, all others are done. b0|r: disk full; b1|r, b2")
    assert sentence.endswith("b19|r: no prediction; and 5 more")


@pytest.mark.slow
def test_materialize_makes_everything_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEG_STORE", store.uri)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    done = materialize("tiny", "phantom")
    assert done.exit_code == 0, done.output
    with open_instance() as instance:
        for step in ("prediction", "fragments", "segmentation"):
            key = dg.AssetKey(["phantom", step])
            assert len(instance.get_materialized_partitions(key)) == 20
        assert instance.get_materialized_partitions(dg.AssetKey("checkpoint")) == {"tiny"}
        for asset, checks in (("lut", PREDICTION), ("report", SEGMENTATION)):
            key = dg.AssetKey(["phantom", asset])
            told = instance.event_log_storage.get_latest_asset_check_execution_by_key(
                [dg.AssetCheckKey(key, name) for name in checks]
            )
            assert len(told) == len(checks)
    before = files_of(store, "tiny")
    assert materialize("tiny", "phantom").exit_code == 0
    now = files_of(store, "tiny")
    assert {n for n in now if now[n] != before[n]} <= {"report.json", "report.html"}


def test_materialize_says_what_failed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEG_STORE", store.uri)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with unreadable(store, [LAST], "more-data"):
        failed = materialize("tiny", "more-data")
    assert failed.exit_code == 1
    assert "Error: more-data/prediction: 1 block(s) failed, all others are done" in failed.output
    assert f"{LAST}|tiny: " in failed.output
    assert "Traceback" not in failed.output
    unknown = materialize("tiny", "nowhere")
    assert (unknown.exit_code, unknown.output.count("\n")) == (1, 1)
    assert "no volume 'nowhere'" in unknown.output


def test_materialize_is_interrupted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_datasplit(_: Run) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setenv("SEG_STORE", store.uri)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("seg_core.datasplit.make_datasplit", make_datasplit)
    stopped = materialize("tiny", "phantom")
    assert stopped.exit_code == 130
    assert stopped.output.endswith("interrupted; what is done is kept, the same command goes on\n")


def materialize(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["materialize", *arguments])
