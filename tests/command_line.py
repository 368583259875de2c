"""Commands as a user gives them, and what they print."""

import json
from typing import Any, NoReturn

from click.testing import CliRunner

from seg_core.cli import seg


def no_number(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


def call(*command: str) -> Any:
    """What a command prints with --json."""
    result = CliRunner().invoke(seg, [*command, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=no_number)


def say(*command: str) -> list[str]:
    """The lines that a command prints for a person."""
    result = CliRunner().invoke(seg, command)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()
