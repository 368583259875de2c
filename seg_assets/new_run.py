"""A new run from the launchpad, without a file: job `new_run`."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import yaml

from seg_assets.failures import refusals
from seg_assets.launchpad import content_of, fields_of
from seg_assets.partitions import RUNS
from seg_assets.resources import StoreParam
from seg_core.errors import SegError
from seg_core.run import Run, RunConfig, add_run, load_run
from seg_core.schema import check_name, parse
from seg_core.source import open_sources
from seg_core.store import Store
from seg_core.volumes.declared import Volume

HEAD = {
    "name": dg.Field(
        dg.String, description="The new run's name: lower-case letters, digits, - and _."
    ),
    "like": dg.Field(
        dg.String,
        is_required=False,
        description="A run whose settings are taken where nothing else is given below.",
    ),
}


@dg.op(
    name="add",
    config_schema={**HEAD, **fields_of(RunConfig)},
    out=dg.Out(dg.Nothing),
    description="Check all of it, write the run's file, and make it a partition; a mistake is "
    "refused in one sentence, and nothing is written.",
)
def add(context: dg.OpExecutionContext, store: StoreParam) -> None:
    """Add the run and its partition."""
    given = dict(context.op_config)
    name, like = given.pop("name"), given.pop("like", None)
    with refusals():
        content = content_of(RunConfig, given)
        if like:
            base = yaml.safe_load(store.read_bytes(f"runs/{load_run(store, like).name}.yaml"))
            content = merged(base, content)
        new_run(store, name, content)
    context.instance.add_dynamic_partitions(str(RUNS.name), [name])
    context.log.info(f"run {name} is there: choose it as partition when you materialize assets")


def new_run(store: Store, name: str, content: Mapping[str, Any]) -> Run:
    """Add a run that is not there yet.

    Raises:
        SegError: its name is taken or no name, or something in it is wrong; nothing was written.
    """
    source = f"run {check_name('run', name)}"
    if store.exists(f"runs/{name}.yaml"):
        raise SegError(f"{source} is there already; a run is made once: choose another name")
    text = yaml.safe_dump(dict(content), sort_keys=False).encode()
    open_sources(Run(store, name, parse(RunConfig, text, source)))
    return add_run(store, name, text, source)


def merged(base: Any, over: Any) -> Any:
    """`base` with what `over` says; of two different kinds nothing is mixed, lists are replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "kind" in over and over["kind"] != base.get("kind", over["kind"]):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def new_run_job(volumes: Sequence[Volume]) -> dg.JobDefinition:
    """The job; its launchpad begins with the fields that one fills in first."""
    begin = {
        "name": "my-run",
        "datasplit": _two_parts([v for v in volumes if v.config.labels]),
        "task": {"affinities": {}},
        "trainer": {"iterations": 1500},
    }

    @dg.job(
        name="new_run",
        config={"ops": {"add": {"config": begin}}},
        executor_def=dg.in_process_executor,
        description="Makes a new run from what is filled in here, without a file; it can be "
        "materialized at once.",
    )
    def job() -> None:
        add()

    return job


def _two_parts(labelled: Sequence[Volume]) -> dict[str, Any]:
    """The first two thirds of a volume's sections to train on, the rest to validate on."""
    if not labelled:
        return {"train": [{"volume": "VOLUME"}], "validate": [{"volume": "VOLUME"}]}
    name, roi = labelled[0].name, labelled[0].roi
    cut = roi.begin[0] + 2 * roi.shape[0] // 3
    return {
        "train": [{"volume": name, "roi": f"{roi.begin[0]}:{cut}, :, :"}],
        "validate": [{"volume": name, "roi": f"{cut}:{roi.end[0]}, :, :"}],
    }
