"""Where training starts from: the weights of an earlier run, noted once and for all."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from seg_core.errors import SegError
from seg_core.run import Run, check_start, load_run
from seg_core.training.checkpoint import load_network, set_weights, weights_of

if TYPE_CHECKING:
    from torch import nn

FILE = "start.json"


@dataclass(frozen=True)
class Start:
    """What `start.json` says.

    Attributes:
        run: the earlier run.
        iteration: which of its checkpoints.
        weights: a digest of the weights, which is part of what the run was made from.
    """

    run: str
    iteration: int
    weights: str


def read_start(run: Run) -> Start | None:
    """What a run started from, None where it did not, or has not begun."""
    noted = run.store.read_json(f"{run.folder}/{FILE}")
    return Start(**noted) if noted else None


def find_start(run: Run, channels: int) -> Start | None:
    """What a run starts from; once it has begun, what was noted then.

    Args:
        run: the run.
        channels: of the raw data that it learns from.

    Raises:
        SegError: the earlier run does not fit, or has no such weights yet.
    """
    if run.config.start is None:
        return None
    if (noted := read_start(run)) is not None:
        return noted
    check_start(run)
    earlier = load_run(run.store, run.config.start.run)
    # the best of now: later another may be chosen there
    best = run.store.read_json(f"{earlier.folder}/best.json")
    iteration = run.config.start.iteration or int(best["iteration"])
    _, provenance, weights = load_network(earlier, iteration)
    if provenance["channels"] != channels:
        raise SegError(
            f"run {run.name} cannot start from run {earlier.name}: raw data has "
            f"{provenance['channels']} channel(s) there and {channels} here"
        )
    return Start(earlier.name, iteration, weights)


def note_start(run: Run, start: Start | None) -> None:
    """Write down what the run starts from, before its first iteration."""
    if start is not None and read_start(run) is None:
        run.store.write_json(f"{run.folder}/{FILE}", asdict(start))


def set_start(run: Run, network: "nn.Module") -> None:
    """Put the weights that were noted into a network; nothing happens where none were.

    Raises:
        SegError: the earlier run holds them no more.
    """
    if (start := read_start(run)) is None:
        return
    earlier, _, weights = load_network(load_run(run.store, start.run), start.iteration)
    if weights != start.weights:
        raise SegError(
            f"run {run.name} was begun from weights that run {start.run} holds no more; use a new "
            "run name"
        )
    set_weights(network, weights_of(earlier))
