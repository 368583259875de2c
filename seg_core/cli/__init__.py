"""The `seg` command: every step without Dagster."""

import os
import signal
import sys
from typing import Any

import click

from seg_core.cli.blocks import blocks
from seg_core.cli.check import check
from seg_core.cli.compare import compare
from seg_core.cli.data import evaluate, import_, phantom, volume
from seg_core.cli.promotion import promote
from seg_core.cli.removal import remove_run
from seg_core.cli.retrain import retrain
from seg_core.cli.runs import run, train, validate
from seg_core.cli.steps import predict, report, segment
from seg_core.cli.view import view
from seg_core.errors import SegError


class _Commands(click.Group):
    """A group whose commands turn what the user can mend into one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SegError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def seg() -> None:
    """Segment microscopy volumes: import, declare, train, validate, predict, segment.

    \b
    The path of a new project:
      seg import raw.tif   .local/store/volumes/NAME/raw.zarr    --voxel-size 8,8,8
      seg import truth.tif .local/store/volumes/NAME/labels.zarr --voxel-size 8,8,8 --labels
      seg volume add NAME.yaml
      seg run add RUN.yaml
      seg train RUN; seg validate RUN; seg predict RUN NAME; seg segment RUN NAME
    Stop any of it and give the same command again: what is done is passed over.
    """


for command in (import_, phantom, volume, evaluate, run, train, validate):
    seg.add_command(command)
for command in (predict, segment, blocks, check, report, compare, view, promote, retrain):
    seg.add_command(command)
run.add_command(remove_run)


def calm_progress_bars() -> None:
    """In a file or a pipe a line every ten seconds is enough; tqdm reads this when imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")


def main() -> None:
    """Entry point; a SIGTERM ends the command as Ctrl-C does, with everything done recorded."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    calm_progress_bars()
    try:
        code = seg.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo(
            "interrupted; what is done is kept, the same command goes on from there", err=True
        )
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
