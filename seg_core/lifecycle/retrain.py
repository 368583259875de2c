"""Retraining: a new run from a template, only where data or settings changed since the last."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import AfterValidator, NonNegativeFloat

from seg_core.datasplit import FILE as DATASPLIT
from seg_core.datasplit import indexed_content
from seg_core.errors import SegError
from seg_core.fingerprint import fingerprint
from seg_core.lease import refuse_held
from seg_core.lifecycle.cron import check_cron
from seg_core.run import FREE, Run, RunConfig, add_run, check_start, load_run, run_names
from seg_core.schema import Strict, parse
from seg_core.source import open_sources
from seg_core.store import Store
from seg_core.validation.best import BEST
from seg_core.volumes.contents import Index

FILE = "retrain.yaml"
RECORD = "retrained.json"
INDEX = "retrain.index.json"


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such name, or no name at all
        raise ValueError("is no time zone; expected one as in Europe/Paris or UTC") from None
    return name


class RetrainConfig(Strict):
    """The file `retrain.yaml` of the store: when runs are made by the schedule, and from what."""

    template: str
    """A run of the store whose file every new run takes."""
    cron: Annotated[str, AfterValidator(check_cron)]
    """Minute, hour, day of month, month, day of week: '0 3 * * 1' is Mondays at 3."""
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"
    """Of the cron string, and of the time in the new runs' names."""
    tolerance: NonNegativeFloat = 0.0
    """By how much a new run's criterion may be worse for it to be promoted."""


@dataclass(frozen=True)
class Retrained:
    """A run of the schedule, before it is added.

    Attributes:
        name: of the run.
        text: its YAML file.
        record: what `retrained.json` of its folder says: `template`, `at`, `start` (the run whose
            weights it starts from, or None), `refused` (why it starts from none though one is
            promoted), and the `fingerprint` that the next tick compares with.
    """

    name: str
    text: bytes
    record: dict[str, Any]


def load_retrain(store: Store) -> RetrainConfig | None:
    """What `retrain.yaml` says, None where there is none.

    Raises:
        SegError: a field of it is wrong.
    """
    if not store.exists(FILE):
        return None
    return parse(RetrainConfig, store.read_bytes(FILE), store.path(FILE))


def next_run(store: Store, at: datetime) -> Run | str:
    """Add the run that is due at a tick of the schedule, or say why none is.

    Where the last one of the schedule came to no best, and is what would be made now, it is due.

    Args:
        store: with `retrain.yaml`.
        at: the tick, which names the run: asked twice, it is the same run. Without a time zone
            it is taken as one of the schedule's.

    Returns:
        The run, or a sentence.

    Raises:
        SegError: the template is not there, or its data or settings are unusable.
        Busy: the run that is due is being made.
    """
    found = plan_run(store, at)
    if not isinstance(found, Retrained):
        return found
    # before the file that makes it a run
    store.write_json(f"runs/{found.name}/{RECORD}", found.record)
    return add_run(store, found.name, found.text, f"{found.name}.yaml")


def plan_run(store: Store, at: datetime) -> Retrained | Run | str:
    """As `next_run`, but nothing is added."""
    config = load_retrain(store)
    if config is None:
        return f"nothing is retrained: there is no {store.path(FILE)}"
    moment = _in_zone(at, ZoneInfo(config.timezone))
    name = f"{config.template}-{moment:%Y%m%d-%H%M}"
    if name in run_names(store):
        if not store.exists(f"runs/{name}/{RECORD}"):
            raise SegError(
                f"run {name} is there already, and was not made by retraining; remove it"
            )
        return load_run(store, name)
    template = load_run(store, config.template)
    now = _fingerprint_now(template)
    last, before = _last(template)
    if last is not None and before == now:
        if last != template.name and not store.exists(f"runs/{last}/{BEST}"):
            return _unfinished(store, last)
        return (
            f"nothing is retrained: labels, raw data and settings of run {template.name} are what "
            f"run {last} was made from"
        )
    text, start = _write(template, name)
    made = {"template": template.name, "at": moment.astimezone(UTC).isoformat(timespec="seconds")}
    return Retrained(name, text, {**made, **start, "fingerprint": now})


def _unfinished(store: Store, name: str) -> Run:
    """A run of the schedule whose training or validation failed or was ended, to go on with.

    Raises:
        Busy: somebody is at work on it.
    """
    run = load_run(store, name)
    locks = [path for path in store.sizes(run.folder) if path.endswith(".lock")]
    refuse_held(store, locks, f"nothing is retrained: run {name} is being made")
    return run


def _in_zone(at: datetime, zone: ZoneInfo) -> datetime:
    return at.replace(tzinfo=zone) if at.tzinfo is None else at.astimezone(zone)


def _last(template: Run) -> tuple[str | None, str]:
    """The last run that came from a template, or else itself if it was used; and from what."""
    store, found = template.store, []
    for name in run_names(store):
        record = store.read_json(f"runs/{name}/{RECORD}")
        if record and record["template"] == template.name:
            found.append((record["at"], name, record["fingerprint"]))
    if found:
        return max(found)[1:]
    split = store.read_json(f"{template.folder}/{DATASPLIT}")
    if split is None:
        return None, ""
    given = store.read_json(f"{template.folder}/run.json")["given"]
    parts = (*split["train"], *split["validate"])
    data = [[s["volume"], s["roi"], s["raw"], s["labels"]] for s in parts]
    return template.name, _fingerprint(given, data)


def _fingerprint_now(template: Run) -> str:
    """Of what a run from this template would be made from: contents, never dates."""
    index, parts = Index(template.store, INDEX), open_sources(template)
    data = [
        [
            source.volume.name,
            str(source.roi),
            indexed_content(index, source, source.volume.raw),
            indexed_content(index, source, source.labels),
        ]
        for source in (*parts["train"], *parts["validate"])
    ]
    index.save()
    given = template.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return _fingerprint(given, data)


def _fingerprint(given: dict[str, Any], data: list[list[str]]) -> str:
    # what changes no byte of the result, and what every new run gets of its own
    compute = {k: v for k, v in given.get("compute", {}).items() if k not in FREE}
    settings = {k: v for k, v in given.items() if k not in ("compute", "start")}
    return fingerprint(settings, compute, data)


def _write(template: Run, name: str) -> tuple[bytes, dict[str, Any]]:
    """The file of a new run, and what of the record says where it starts."""
    from seg_core.lifecycle.promotion import promoted  # it scores, so it brings torch with it

    store = template.store
    content = yaml.safe_load(store.read_bytes(f"runs/{template.name}.yaml"))
    first, refused = promoted(store), ""
    if first is not None:
        started = {**content, "start": {"run": first}}
        try:
            check_start(Run(store, name, RunConfig.model_validate(started)))
            content = started
        except SegError as error:
            first, refused = None, str(error)
    text = f"# {name}: made from run {template.name} by the schedule of {FILE}\n"
    text += yaml.safe_dump(content, sort_keys=False)
    return text.encode(), {"start": first, "refused": refused}
