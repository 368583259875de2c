"""The file that says which run is promoted, and every one before it."""

from datetime import UTC, datetime
from typing import Any

from seg_core.lease import Lease
from seg_core.store import Store

FILE = "promoted.json"


def promoted(store: Store) -> str | None:
    """The promoted run's name, None where none is."""
    content = store.read_json(FILE)
    return str(content["run"]) if content else None


def read_history(store: Store) -> list[dict[str, Any]]:
    """Every promotion and roll-back: run, at, why, and `back` where it is a roll-back."""
    content = store.read_json(FILE)
    return list(content["history"]) if content else []


def standing(store: Store) -> list[str]:
    """The promoted run, last, after those that roll-backs would reach."""
    runs: list[str] = []
    for entry in read_history(store):
        if entry.get("back"):
            runs.pop()
        else:
            runs.append(entry["run"])
    return runs


def promotions(store: Store) -> Lease:
    """Held while a run is promoted, and while one that is not is marked as being removed."""
    return Lease(store, "promoted.lock", "promotion")


def note(store: Store, run: str, why: str, *, back: bool = False) -> None:
    """Write down that a run is promoted from now on; whoever calls holds the lease."""
    entry = {"run": run, "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
    history = [*read_history(store), entry | ({"back": True} if back else {})]
    store.write_json(FILE, {"run": run, "history": history})
