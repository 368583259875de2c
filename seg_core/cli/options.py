"""What the commands share: options, and how a result is shown."""

from collections.abc import Callable
from typing import Any

import click

from seg_core.store import to_json

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
STORE = click.option(
    "--store", metavar="URI", help="The store; $SEG_STORE or .local/store unless given."
)
FORCE = click.option("--force", is_flag=True, help="Make blocks again that are done already.")
WORKERS = click.option("--workers", type=click.IntRange(1), help="Processes; else as the run says.")


def show(result: Any, as_json: bool, lines: Callable[[], list[str]]) -> None:
    """Print a result as JSON, or as the lines for a person."""
    click.echo(to_json(result) if as_json else "\n".join(lines()))


def numbers(of: type, name: str) -> Callable[[Any, Any, str | None], Any]:
    """A click callback for three numbers with commas."""

    def parse(_: Any, __: Any, text: str | None) -> Any:
        if text is None:
            return None
        try:
            z, y, x = (of(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r}: expected {name} as Z,Y,X") from None
        return z, y, x

    return parse
