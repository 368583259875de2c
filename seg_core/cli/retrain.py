"""Retraining by hand: what the schedule would do at this moment."""

from datetime import UTC, datetime

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say it.")
@STORE
@JSON
def retrain(dry_run: bool, store: str | None, as_json: bool) -> None:
    """Do what the schedule of retrain.yaml would do now: add a run, if there is a reason.

    The run's file is that of the template; it starts from the promoted run. There is a reason if
    labels, raw data or settings changed since the last run that came from the template.
    """
    from seg_core.lifecycle.retrain import RECORD, Retrained, next_run, plan_run

    opened, now = Store(store), datetime.now(UTC)
    found = plan_run(opened, now) if dry_run else next_run(opened, now)
    if isinstance(found, str):
        show({"run": None, "reason": found}, as_json, lambda: [found])
        return
    if isinstance(found, Retrained):
        record, verb = found.record, "would be added"
    else:
        record, verb = opened.read_json(f"{found.folder}/{RECORD}"), "is to be trained"
    start = f"starting from run {record['start']}" if record["start"] else "starting from scratch"
    sentence = f"run {found.name} {verb}, from the file of run {record['template']}, {start}"
    show({"run": found.name, **record}, as_json, lambda: [sentence])
