"""`python -m seg_assets`: what one starts by hand on the Dagster side."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from seg_core.cli import calm_progress_bars


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """The Dagster side: the same steps as `seg`, recorded as assets."""


@commands.command()
@click.argument("run")
@click.argument("volumes", nargs=-1, metavar="[VOLUME]...")
def materialize(run: str, volumes: tuple[str, ...]) -> None:
    """Materialize every asset of RUN, on the volumes named or else on all that are declared.

    What is done already is passed over. Dagster's records go to DAGSTER_HOME, .local/dagster
    unless it is set; look at them with: dagster dev
    """
    from seg_assets.materialize import materialize_all

    try:
        with one_sentence():
            materialize_all(run, volumes)
    except KeyboardInterrupt:
        click.echo("interrupted; what is done is kept, the same command goes on", err=True)
        sys.exit(130)


@commands.command()
@click.argument("run")
@click.argument("volume")
def backfill(run: str, volume: str) -> None:
    """Start one backfill of exactly what is failed, missing or stale of RUN on VOLUME.

    The daemon of a running `dagster dev` with the same DAGSTER_HOME makes it.
    """
    from seg_assets.backfill import backfill_due
    from seg_assets.home import open_instance
    from seg_core.store import Store

    with one_sentence(), open_instance() as instance:
        started = backfill_due(instance, Store(), run, volume)
    click.echo(f"backfill {started} started" if started else "nothing is due")


@contextmanager
def one_sentence() -> Iterator[None]:
    """What the user can mend is said in one sentence."""
    from seg_core.errors import SegError

    try:
        yield
    except SegError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    calm_progress_bars()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands(prog_name="python -m seg_assets")
