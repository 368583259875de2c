"""Whether a datasplit is fit to learn from and to judge by."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_core.checks.leak import no_leak
from seg_core.fingerprint import fingerprint
from seg_core.geometry import triple
from seg_core.run import Run
from seg_core.source import Source, open_sources
from seg_core.tasks.task import Task
from seg_core.verdicts import Verdict
from seg_core.volumes.stamps import chunk_stamps, region_stamp

CHECKS = ("labels_present", "shapes_agree", "no_leak", "class_balance")

RARE = 0.001
"""A class of a smaller share of the training voxels is told."""
UNLIKE = 10.0
"""Shares in train and validate that differ by a larger factor are told."""


def check_datasplit(run: Run) -> list[Verdict]:
    """The verdicts on what a run trains on and validates on; by its file, frozen or not.

    Raises:
        SegError: a source cannot be opened.
    """
    parts = open_sources(run)
    counts = {part: [count(run.config.task, s) for s in found] for part, found in parts.items()}
    verdicts = [
        labels_present(counts),
        shapes_agree([s for found in parts.values() for s in found]),
        no_leak(parts["train"], parts["validate"], triple(run.config.trainer.crop)),
        class_balance(counts),
    ]
    made_from = _made_from(run, parts)
    return [replace(verdict, made_from=made_from) for verdict in verdicts]


def _made_from(run: Run, parts: dict[str, list[Source]]) -> str:
    stamps = [
        [part, s.name, [region_stamp(a, chunk_stamps(a), s.roi) for a in (s.volume.raw, s.labels)]]
        for part, found in parts.items()
        for s in found
    ]
    return fingerprint(stamps, run.config.task.model_dump(mode="json"), run.config.trainer.crop)


@dataclass(frozen=True)
class Counts:
    """What a source's labels hold.

    Attributes:
        name: the source's.
        objects: how many objects (or classes) there are.
        shares: voxels of everything that is to be learnt, by its name, and of how many.
    """

    name: str
    objects: int
    shares: dict[str, tuple[int, int]]


def count(task: Task, source: Source) -> Counts:
    """Count the voxels of every class; for objects those inside and outside, and the borders."""
    ids, known = task.prepare(source.labels.read(source.roi))
    objects = len(np.unique(ids[known & (ids > 0)]))
    total = int(known.sum())
    if task.postprocess.joins:
        inside = int((known & (ids > 0)).sum())
        shares = {"background": (total - inside, total), "foreground": (inside, total)}
        shares["boundary"] = _boundary(ids, known)
    else:
        voxels = np.bincount(ids[known].ravel(), minlength=len(task.channels)).tolist()
        shares = {name: (n, total) for name, n in zip(task.channels, voxels, strict=False)}
    return Counts(source.name, objects, shares)


def _boundary(ids: NDArray[np.int32], known: NDArray[np.bool_]) -> tuple[int, int]:
    """Pairs of neighbours in different objects, and all pairs of neighbours that are known."""
    different = pairs = 0
    for axis in range(3):
        a, b = (np.moveaxis(ids, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        both = np.moveaxis(known, axis, 0)[:-1] & np.moveaxis(known, axis, 0)[1:]
        different += int(((a != b) & both).sum())
        pairs += int(both.sum())
    return different, pairs


def labels_present(counts: dict[str, list[Counts]]) -> Verdict:
    """Every source has an object."""
    empty = [c.name for found in counts.values() for c in found if c.objects == 0]
    figures = {c.name: c.objects for found in counts.values() for c in found}
    sentence = f"each of {len(figures)} sources has labelled objects"
    if empty:
        sentence = (
            f"{', '.join(empty)} has labels with no object in them; give another ROI or labels "
            "that hold what task.kind is to learn"
        )
    return Verdict("labels_present", not empty, "error", sentence, {"objects": figures})


def shapes_agree(sources: list[Source]) -> Verdict:
    """All sources have as many channels, and should have one dtype and voxel size.

    The network takes one number of channels. Other voxel sizes or value ranges it can take, and
    some mix them on purpose; but it learns in voxels and values, so they are told.
    """
    found: dict[str, dict[str, Any]] = {
        "channels": {s.name: s.volume.raw.channels or 1 for s in sources},
        "voxel_size": {s.name: list(s.volume.voxel_size) for s in sources},
        "dtype": {s.name: s.volume.raw.dtype for s in sources},
    }
    differ = [name for name, values in found.items() if len({str(v) for v in values.values()}) > 1]
    if not differ:
        sentence = "all sources have the same channels, voxel size and dtype"
        return Verdict("shapes_agree", True, "error", sentence, found)
    named = "; ".join(
        f"{name.replace('_', ' ')}: {', '.join(f'{s} has {v}' for s, v in found[name].items())}"
        for name in differ
    )
    wrong = "channels" in differ
    sentence = f"sources differ in {named}; " + (
        "a network takes one number of channels: import them alike"
        if wrong
        else "a network learns in voxels and values: resample or import them alike, unless meant"
    )
    return Verdict("shapes_agree", False, "error" if wrong else "warning", sentence, found)


def class_balance(counts: dict[str, list[Counts]]) -> Verdict:
    """What is validated on was there to be learnt, and neither is nearly absent."""
    train, validate = (_shares(counts[part]) for part in ("train", "validate"))
    figures = {"train": train, "validate": validate}
    unseen = [name for name, share in validate.items() if share > 0 and train[name] == 0]
    if unseen:
        sentence = (
            f"{', '.join(unseen)} is in what is validated on ({_per_cent(validate, unseen)}), but "
            "nowhere in what is trained on; give train a ROI that holds it"
        )
        return Verdict("class_balance", False, "error", sentence, figures)
    odd = [name for name in train if name != "background" and _odd(train[name], validate[name])]
    if odd:
        sentence = (
            f"{', '.join(odd)} is rare or unlike: {_per_cent(train, odd)} of what is trained on, "
            f"{_per_cent(validate, odd)} of what is validated on; ROIs that hold more alike shares "
            "give scores that mean more"
        )
        return Verdict("class_balance", False, "warning", sentence, figures)
    sentence = f"shares are alike: {_per_cent(train, train)} in train"
    return Verdict("class_balance", True, "warning", sentence, figures)


def _shares(counts: list[Counts]) -> dict[str, float]:
    names = counts[0].shares
    sums = {n: [sum(c.shares[n][i] for c in counts) for i in (0, 1)] for n in names}
    return {name: part / whole if whole else 0.0 for name, (part, whole) in sums.items()}


def _odd(train: float, validate: float) -> bool:
    rare = train < RARE or validate == 0
    return rare or not 1 / UNLIKE <= validate / train <= UNLIKE


def _per_cent(shares: dict[str, float], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {100 * shares[name]:.3g} %" for name in names)
