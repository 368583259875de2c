"""Runs that are not needed any more: archived, or deleted with all that they made.

What says that something is done goes before what it speaks of, so that whatever ends the removal
leaves nothing that looks whole; the same removal then goes on.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from seg_core.errors import SegError
from seg_core.lease import Lease, refuse_held
from seg_core.lifecycle.promoted import promotions, standing
from seg_core.run import ARCHIVED, load_run, removal_mark
from seg_core.schema import check_name
from seg_core.store import Store
from seg_core.training.start import FILE as START
from seg_core.validation.best import read_best

SMALL = ("checks", "lut", "report")
"""Folders of a run on a volume that an archive keeps; its table keeps the ids of segments."""


@dataclass(frozen=True)
class Removal:
    """What a removal takes, and what it leaves.

    Attributes:
        run: its name.
        archive: whether the run stays, with what is kept.
        paths: files and folders of the store, in the order in which they go.
        bytes: what these hold now.
        kept: files of the store that stay.
    """

    run: str
    archive: bool
    paths: list[str]
    bytes: int
    kept: list[str]


def plan_removal(store: Store, name: str, *, archive: bool) -> Removal:
    """What archiving or deleting a run would take; nothing is removed.

    An archive keeps config, datasplit, scores, the best checkpoint, the training curve, reports,
    verdicts and look-up tables: all else can be made again from these.

    Raises:
        SegError: there is no such run, or it is the promoted run, one that it came from, or one
            that a roll-back would reach.
        Busy: somebody is at work on it.
        NotReady: it is to be archived, but has no best checkpoint.
    """
    files = store.sizes(f"runs/{check_name('run', name)}")
    if not store.exists(removal_mark(name)) and not files:
        load_run(store, name)
    if name in (protected := _protected(store)):
        raise SegError(f"run {name} cannot be removed: {protected[name]}")
    locks = [path for path in files if path.endswith(".lock")]
    refuse_held(store, locks, f"run {name} cannot be removed")
    if not archive:
        files = store.sizes(f"runs/{name}.yaml") | files
        gone = [f"runs/{name}.yaml", f"runs/{name}"]
        return Removal(name, False, gone, sum(files.values()), [])
    iteration = read_best(load_run(store, name)).iteration
    kept = [path for path in files if _is_kept(path, iteration)]
    taken = [path for path in files if path not in set(kept)]
    return Removal(name, True, _gathered(taken, kept), sum(files[p] for p in taken), kept)


def remove(store: Store, plan: Removal) -> int:
    """Remove what a plan says, as things are now.

    Returns:
        The bytes that were freed.

    Raises:
        SegError: as `plan_removal`.
        Busy: as that; or another process promotes a run.
    """
    with Lease(store, f"runs/{plan.run}.lock", f"removal of run {plan.run}"):
        with promotions(store):  # it is promoted, or marked, but never both
            now = plan_removal(store, plan.run, archive=plan.archive)
            _mark(store, plan)
        freed = sum(_remove(store, path) for path in now.paths)
        if not plan.archive:
            store.remove(removal_mark(plan.run))
        return freed


def _mark(store: Store, plan: Removal) -> None:
    if plan.archive:
        best = read_best(load_run(store, plan.run))
        store.write_json(f"runs/{plan.run}/{ARCHIVED}", {"iteration": best.iteration})
    else:
        store.write_json(removal_mark(plan.run), {"run": plan.run})


def _remove(store: Store, path: str) -> int:
    before = sum(store.sizes(path).values())
    store.remove(path)
    return before - sum(store.sizes(path).values())


def _protected(store: Store) -> dict[str, str]:
    """Why each of these runs must stay, by its name."""
    runs = standing(store)
    why = dict.fromkeys(runs, "a roll-back would promote it")
    if runs:
        why[runs[-1]] = "it is promoted; promote another one first"
    for name in runs:
        run = name
        while (start := store.read_json(f"runs/{run}/{START}")) and start["run"] not in why:
            run = start["run"]
            why[run] = f"run {name}, which is promoted or may be again, came from it"
    return why


def _is_kept(path: str, iteration: int) -> bool:
    _, _, *parts = PurePosixPath(path).parts
    own = {
        "checkpoints": parts[1:] == [f"{iteration}.safetensors"],
        "compared": len(parts) == 2,
        "validation": False,
    }
    small = len(parts) <= 2 or parts[1] in SMALL
    return not path.endswith(".lock") and own.get(parts[0], small)


def _gathered(taken: list[str], kept: list[str]) -> list[str]:
    """Whole folders where nothing in them is kept; records of blocks before the blocks."""
    partly = {_top(path) for path in kept}
    paths = {path if _top(path) in partly else _top(path) for path in taken}
    return sorted(paths, key=lambda path: (not path.endswith("/blocks"), path))


def _top(path: str) -> str:
    """Such as runs/<run>/<volume>/prediction.zarr."""
    return "/".join(PurePosixPath(path).parts[:4])
