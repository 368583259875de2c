"""Verdicts: what a check found, kept in the store, so that what hangs from it can be refused."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from seg_core.errors import NotReady
from seg_core.store import Store, to_json


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes:
        check: its name, which is also that of its file and of the asset check in the UI.
        passed: whether all is well.
        severity: an `error` stops what hangs from it, a `warning` is only told.
        sentence: what was found; where it did not pass, what was expected and how to mend it.
        figures: the numbers behind it.
        made_from: fingerprint of what was looked at; a verdict on something else is none.
    """

    check: str
    passed: bool
    severity: Literal["error", "warning"]
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)
    made_from: str = ""

    @property
    def blocks(self) -> bool:
        """Whether what hangs from it may not start."""
        return not self.passed and self.severity == "error"


def write_verdicts(store: Store, folder: str, verdicts: Sequence[Verdict]) -> None:
    """Write what is new of verdicts to `checks/` of a folder: a run's, or a run's on a volume."""
    for verdict in verdicts:
        path, content = f"{folder}/checks/{verdict.check}.json", asdict(verdict)
        if store.read_json(path) != json.loads(to_json(content)):
            store.write_json(path, content)


def read_verdicts(store: Store, folder: str) -> dict[str, Verdict]:
    """Every verdict of a folder by the check's name, sorted."""
    files = store.read_folder(f"{folder}/checks")
    return {name: Verdict(**json.loads(files[name])) for name in sorted(files)}


def refuse_blocked(what: str, verdicts: Sequence[Verdict]) -> None:
    """Let nothing start that hangs from a failed check.

    Raises:
        NotReady: a verdict of severity `error` did not pass; its sentence is told.
    """
    found = [f"{v.check}: {v.sentence}" for v in verdicts if v.blocks]
    if found:
        raise NotReady(f"{what} does not start, since a check failed: {'; '.join(found)}")


def named(keys: Sequence[str]) -> str:
    """Block keys in a sentence: the first ten, and how many more."""
    more = f" and {len(keys) - 10} more" if len(keys) > 10 else ""
    return ", ".join(keys[:10]) + more
