"""Removal of a run: what it frees is said before, and after."""

import sys

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store


@click.command("remove")
@click.argument("name")
@click.option("--archive", is_flag=True, help="Keep its file, scores, reports, best checkpoint.")
@click.option("--dry-run", is_flag=True, help="Only say what it would free.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@STORE
@JSON
def remove_run(
    name: str, archive: bool, dry_run: bool, yes: bool, store: str | None, as_json: bool
) -> None:
    """Delete the run NAME with all that it made, or archive it.

    Of an archived run everything can be made again. The promoted run, those that it came from
    and those that a roll-back would reach are protected.
    """
    from seg_core.lifecycle.removal import plan_removal, remove

    opened = Store(store)
    plan = plan_removal(opened, name, archive=archive)
    frees = "would free" if dry_run else "frees"
    what = f"{'archiving' if archive else 'deleting'} run {name} {frees} {_size(plan.bytes)}"
    if not (dry_run or yes) and sys.stdin.isatty() and not click.confirm(f"{what}. Go on?"):
        click.echo("nothing was removed")
        return
    if not (dry_run or as_json):
        click.echo(what)
    freed = 0 if dry_run else remove(opened, plan)
    result = {"run": name, "bytes": plan.bytes, "freed": freed, "paths": plan.paths}
    done = f"run {name} is {'archived' if archive else 'deleted'}: {_size(freed)} freed"
    show(result, as_json, lambda: [what, *plan.paths] if dry_run else [done])


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
