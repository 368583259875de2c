"""`python -m seg_assets`: what one starts by hand on the Dagster side."""

import signal
import sys

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
    from seg_core.errors import SegError

    try:
        materialize_all(run, volumes)
    except SegError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("interrupted; what is done is kept, the same command goes on", err=True)
        sys.exit(130)


if __name__ == "__main__":
    calm_progress_bars()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands(prog_name="python -m seg_assets")
