"""A run made in the launchpad is what its YAML file would be; a mistake is one sentence."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from tiny_run import make_run, make_volume

from seg_assets.definitions import definitions_of
from seg_assets.launchpad import content_of
from seg_assets.new_run import merged
from seg_core.run import RunConfig, load_run
from seg_core.store import Store

SOURCES = {
    "train": [{"volume": "phantom", "roi": "0:60, :, :"}],
    "validate": [{"volume": "phantom", "roi": "60:120, :, :", "weight": 2}],
}
GIVEN: dict[str, Any] = {
    "datasplit": SOURCES,
    "task": {
        "affinities": {
            "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            "postprocess": {"watershed": {"seed_affinity": 0.8, "weak_voxels": "own"}},
        }
    },
    "trainer": {"iterations": 7, "augment": [{"mirror": {"axes": [0]}}, {"noise": {}}]},
    "compute": {"device": "cpu", "predict": [48, 48, 48]},
}
SAID = """
datasplit:
  train: [{volume: phantom, roi: '0:60, :, :'}]
  validate: [{volume: phantom, roi: '60:120, :, :', weight: 2}]
task:
  kind: affinities
  offsets: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
  postprocess: {kind: watershed, seed_affinity: 0.8, weak_voxels: own}
trainer: {iterations: 7, augment: [{kind: mirror, axes: [0]}, {kind: noise}]}
compute: {device: cpu, predict: [48, 48, 48]}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    make_run(store)
    return store


def launch(store: Store, **config: Any) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """The job, and the partitions that there are afterwards."""
    job = definitions_of(store.uri).resolve_job_def("new_run")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            run_config={"ops": {"add": {"config": config}}},
            instance=instance,
            raise_on_error=False,
        )
        return result, list(instance.get_dynamic_partitions("runs"))


def refusal(store: Store, **config: Any) -> str:
    before = sorted(p.name for p in Path(store.path("runs")).iterdir())
    result, partitions = launch(store, **config)
    assert not result.success
    assert partitions == []
    assert sorted(p.name for p in Path(store.path("runs")).iterdir()) == before
    (event,) = result.get_step_failure_events()
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description is not None
    assert "\n" not in failure.description
    return failure.description


def test_what_is_filled_in_is_what_the_file_says(store: Store) -> None:
    result, partitions = launch(store, name="made", **GIVEN)
    assert result.success
    assert partitions == ["made"]
    assert yaml.safe_load(store.read_bytes("runs/made.yaml")) == yaml.safe_load(SAID)
    assert load_run(store, "made").config == RunConfig.model_validate(yaml.safe_load(SAID))


def test_a_run_like_another(store: Store) -> None:
    assert launch(store, name="longer", like="tiny", trainer={"iterations": 99})[0].success
    tiny, longer = (load_run(store, name).config for name in ("tiny", "longer"))
    trainer = tiny.trainer.model_copy(update={"iterations": 99})
    assert longer == tiny.model_copy(update={"trainer": trainer})


def test_every_field_has_its_help(store: Store) -> None:
    job = definitions_of(store.uri).resolve_job_def("new_run")
    fields = job.get_node_named("add").definition.config_schema.config_type.fields  # type: ignore[attr-defined]
    assert set(fields) == {
        "name",
        "like",
        *(f.alias or n for n, f in RunConfig.model_fields.items()),
    }
    trainer = fields["trainer"].config_type.fields
    assert trainer["learning_rate"].config_type.given_name == "Float"
    text = "Of AdamW; it warms up, then falls along a cosine to zero. Default: 0.002"
    assert trainer["learning_rate"].description == text
    device = fields["compute"].config_type.fields["device"].config_type
    assert [value.config_value for value in device.enum_values] == ["auto", "cpu", "cuda"]
    assert set(fields["task"].config_type.fields) == {"affinities", "one_hot", "own"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "Tiny", "datasplit": SOURCES}, "run name 'Tiny': only lower-case letters"),
        ({"name": "tiny", "datasplit": SOURCES}, "run tiny is there already"),
        ({"name": "x"}, "run x: datasplit: is missing"),
        ({"name": "x", "like": "nobody"}, "no run 'nobody' in"),
        (
            {"name": "x", "datasplit": SOURCES, "trainer": {"iterations": 0}},
            "run x: trainer.iterations: input should be greater than 0 (given: 0)",
        ),
        (
            {"name": "x", "datasplit": SOURCES, "task": {"own": {"kind": "no.such:Task"}}},
            "run x: task: cannot import 'no.such:Task'",
        ),
        (
            {"name": "x", "datasplit": {**SOURCES, "train": [{"volume": "nowhere"}]}},
            "no volume 'nowhere' in",
        ),
        (
            {"name": "x", "datasplit": {**SOURCES, "train": [{"volume": "phantom", "roi": ":"}]}},
            "run x: volume phantom: ROI ':': expected three slices",
        ),
    ],
    ids=["name", "taken", "missing", "like", "range", "import", "volume", "roi"],
)
def test_a_mistake_is_refused(store: Store, config: dict[str, Any], sentence: str) -> None:
    assert refusal(store, **config).startswith(sentence)


def test_what_the_launchpad_begins_with_has_no_leak(store: Store) -> None:
    job = definitions_of(store.uri).resolve_job_def("new_run")
    with dg.instance_for_test() as instance:
        assert job.execute_in_process(instance=instance).success
    split = load_run(store, "my-run").config.datasplit
    assert [s.roi for s in (*split.train, *split.validate_)] == ["0:80, :, :", "80:120, :, :"]


def test_kinds_are_not_mixed() -> None:
    base = {"task": {"kind": "affinities", "offsets": [1]}, "trainer": {"seed": 1, "clip": 2}}
    over = {"task": {"kind": "one_hot"}, "trainer": {"seed": 3}}
    assert merged(base, over) == {"task": {"kind": "one_hot"}, "trainer": {"seed": 3, "clip": 2}}


def test_choices_of_a_users_own() -> None:
    own = {"kind": "package.module:Name", "depth": 3}
    given = {"architecture": {"own": own}, "trainer": {"augment": [{"own": own}]}}
    assert content_of(RunConfig, given) == {"architecture": own, "trainer": {"augment": [own]}}
