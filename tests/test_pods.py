"""What a step's pod asks for, and what is refused before one starts; without any cluster."""

import json
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._config import validate_config
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from tiny_run import RUN, make_volume

from seg_assets.definitions import definitions_of
from seg_assets.kubernetes import pods, preflight
from seg_assets.kubernetes.launcher import PodRunLauncher
from seg_assets.kubernetes.logs import StoreLogs
from seg_core.errors import SegError
from seg_core.run import Run, add_run, load_run
from seg_core.store import Store
from seg_core.volumes.declared import add_volume, load_volume

PROJECT = Path(__file__).parents[1]
SETTINGS = """
account: seg-step
node: {memory: 16, cpu: 4, gpus: 1}
pod: {cpu: 0.5, disk: 2, grace: 25}
selector: {spot: "true"}
tolerations: [{key: spot, operator: Exists}]
gpu: {selector: {card: l4}, tolerations: [{key: nvidia.com/gpu, operator: Exists}]}
"""


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> pods.PodSettings:
    monkeypatch.setenv("SEG_PODS", SETTINGS)
    found = pods.settings()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    return store


def add(store: Store, name: str, compute: str) -> Run:
    usual = "{device: cpu, threads: 1}"
    assert usual in RUN
    text = RUN.replace(usual, compute)
    return add_run(store, name, text.encode(), f"{name}.yaml")


def config_of(definitions: dg.Definitions, *key: str) -> dict[str, dict[str, object]]:
    op = definitions.resolve_assets_def(dg.AssetKey(list(key))).op
    config: dict[str, dict[str, object]] = json.loads(op.tags["dagster-k8s/config"])
    return config


def test_without_the_setting_nothing_differs_on_a_laptop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEG_PODS", raising=False)
    definitions = definitions_of(store.uri)
    assert definitions.executor is dg.in_process_executor
    prediction = definitions.resolve_assets_def(dg.AssetKey(["phantom", "prediction"])).op
    assert not any(tag.startswith(("dagster-k8s", "seg/")) for tag in prediction.tags)
    assert (prediction.pool, prediction.retry_policy) == (None, None)


@pytest.mark.usefixtures("offered")
def test_gpu_steps_ask_for_a_gpu_and_others_do_not(store: Store) -> None:
    definitions = definitions_of(store.uri)
    assert definitions.executor.name == "pods"
    gpu = config_of(definitions, "phantom", "prediction")
    assert gpu["container_config"]["resources"] == {
        "requests": {"ephemeral-storage": "2000M", "nvidia.com/gpu": "1", "cpu": "500m"},
        "limits": {"ephemeral-storage": "2000M", "nvidia.com/gpu": "1"},
    }
    assert gpu["pod_spec_config"] == {
        "service_account_name": "seg-step",
        "termination_grace_period_seconds": 25,
        "node_selector": {"spot": "true", "card": "l4"},
        "tolerations": [
            {"key": "spot", "operator": "Exists"},
            {"key": "nvidia.com/gpu", "operator": "Exists"},
        ],
        "volumes": [{"name": "shm", "empty_dir": {"medium": "Memory"}}],
    }
    assert gpu["container_config"]["volume_mounts"] == [{"name": "shm", "mount_path": "/dev/shm"}]
    cpu = config_of(definitions, "phantom", "fragments")
    assert "nvidia.com/gpu" not in str(cpu)
    assert "shm" not in str(cpu)
    assert cpu["pod_spec_config"]["node_selector"] == {"spot": "true"}
    ops = {
        key: definitions.resolve_assets_def(dg.AssetKey(list(key))).op
        for key in (("phantom", "prediction"), ("phantom", "fragments"), ("phantom", "lut"))
    }
    assert [op.pool for op in ops.values()] == ["gpu", None, None]
    assert all(op.retry_policy.max_retries == 3 for op in ops.values())


def test_run_over_volume_over_deployment(store: Store, offered: pods.PodSettings) -> None:
    text = Path(store.path("volumes/phantom.yaml")).read_text()
    volume = add_volume(
        store,
        "big",
        (
            text.replace("raw.zarr", "../phantom/raw.zarr").replace(
                "labels.zarr", "../phantom/labels.zarr"
            )
            + "pods: {prediction: {memory: 10, disk: 7}, fragments: {cpu: 2}}\n"
        ).encode(),
        "big.yaml",
    )
    run = add(store, "r", "{device: cpu, threads: 1, memory: 3, pods: {prediction: {disk: 9}}}")
    asked = pods.request_of(offered, "prediction", run, volume)
    assert (asked.memory, asked.disk, asked.cpu, asked.gpus) == (10, 9, 0.5, 1)
    asked = pods.request_of(offered, "fragments", run, volume)
    assert (asked.memory, asked.disk, asked.cpu, asked.gpus) == (4, 2, 2, None)
    asked = pods.request_of(offered, "prediction", run, load_volume(store, "phantom"))
    assert asked.memory == 4  # what the run may take, and 1 GB for Python and its libraries


def test_the_most_of_several_runs(store: Store, offered: pods.PodSettings) -> None:
    add(store, "small", "{device: cpu, threads: 1, memory: 2, pods: {lut: {cpu: 3}}}")
    add(store, "large", "{device: cpu, threads: 1, memory: 9}")
    most = preflight.largest(offered, store, "lut", "phantom", ["small", "large"])
    assert (most.memory, most.cpu) == (10, 3)


def test_what_a_pod_asks_for_may_change_in_a_frozen_run(store: Store) -> None:
    before = add(store, "frozen", "{device: cpu, threads: 1}").frozen
    add(store, "frozen", "{device: cpu, threads: 1, memory: 5, pods: {lut: {memory: 30}}}")
    now = load_run(store, "frozen").frozen
    assert now.compute.pods["lut"].memory == 30
    assert now.model_copy(update={"compute": before.compute}) == before


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("compute", "sentence"),
    [
        ("{device: cuda}", r"checkpoint of run no asks for a GPU .* torch built for CPUs; build"),
        ("{memory: 20}", r"asks for 21 GB of memory, but the largest node gives a pod 16; ask for"),
        ("{pods: {checkpoint: {gpus: 4}}}", r"asks for 4 GPU\(s\), but the largest node .* 1; ask"),
        ("{pods: {checkpoint: {cpu: 5}}}", r"asks for 5 core\(s\), but the largest node .* 4; ask"),
        (
            "{device: cuda, pods: {checkpoint: {gpus: 0}}}",
            r"but this deployment gives it none; set",
        ),
    ],
)
def test_what_cannot_fit_is_refused(store: Store, compute: str, sentence: str) -> None:
    add(store, "no", compute)
    with pytest.raises(SegError, match=sentence):
        preflight.refuse_what_does_not_fit(store, [dg.AssetKey("checkpoint")], ["no"])


def test_more_gpus_than_a_node_has_are_refused_when_definitions_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEG_PODS", "node: {memory: 16, cpu: 4, gpus: 1}\ngpu: {count: 2}")
    with pytest.raises(SegError, match="no node has as many"):
        pods.settings()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"dagster/partition": "b"}, ["b"]),
        ({"dagster/partition": "z0000y0000x0000|b", "dagster/partition/run": "b"}, ["b"]),
        (
            {
                "dagster/asset_partition_range_start": "z0000y0000x0000|a",
                "dagster/asset_partition_range_end": "z0001y0000x0000|c",
            },
            ["a", "b", "c"],
        ),
        ({}, []),
    ],
)
def test_training_runs_of_a_dagster_run(tags: dict[str, str], expected: list[str]) -> None:
    run = dg.DagsterRun("job", tags=tags)
    assert preflight.training_runs(run, ["a", "b", "c", "d"]) == expected


def test_what_was_printed_is_read_from_the_store_by_another_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.storage.compute_log_manager import ComputeIOType

    monkeypatch.setenv("SEG_STORE", str(tmp_path / "store"))
    key = ["run", "compute_logs", "step"]
    step = StoreLogs(str(tmp_path / "pod"))
    with step.open_log_stream(key, ComputeIOType.STDERR) as stream:
        assert stream is not None
        stream.write("printed\n")
    webserver = StoreLogs(str(tmp_path / "webserver"))
    assert webserver.is_capture_complete(key)
    assert webserver.get_log_data(key).stderr == b"printed\n"
    assert webserver.get_log_keys_for_log_key_prefix(key[:2], ComputeIOType.STDERR) == [key]
    webserver.delete_logs(prefix=["run"])
    assert not StoreLogs(str(tmp_path / "other")).is_capture_complete(key)


def test_what_a_killed_pod_printed_so_far_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.storage.compute_log_manager import ComputeIOType

    monkeypatch.setenv("SEG_STORE", str(tmp_path / "store"))
    key = ["run", "compute_logs", "step"]
    step = StoreLogs(str(tmp_path / "pod"))
    with step.local_manager.open_log_stream(key, ComputeIOType.STDOUT) as stream:
        assert stream is not None
        stream.write("half\n")
        stream.flush()
        step.upload_to_cloud_storage(key, ComputeIOType.STDOUT, partial=True)
        webserver = StoreLogs(str(tmp_path / "webserver"))
        assert webserver.get_log_data(key).stdout == b"half\n"


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("k8s/base/dagster.yaml", ["run_launcher", "config"]),
        ("k8s/helm-values.yaml", ["runLauncher", "config", "customRunLauncher", "config"]),
    ],
)
def test_dagster_accepts_the_settings_of_the_launcher(file: str, path: list[str]) -> None:
    content = yaml.safe_load((PROJECT / file).read_text())
    for name in path:
        content = content[name]
    outcome = validate_config(PodRunLauncher.config_type(), content)
    assert outcome.success, outcome.errors
    run = UserDefinedDagsterK8sConfig.from_dict(content["run_k8s_config"])
    assert run.job_spec_config["pod_replacement_policy"] == "Failed"


@pytest.mark.parametrize("file", sorted((PROJECT / "k8s").rglob("pods.yaml")), ids=str)
def test_settings_of_every_deployment_can_be_read(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("SEG_PODS", file.read_text())
    assert pods.settings() is not None
