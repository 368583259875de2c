"""The rows of the table: what each is called, and its figure in a context."""

from collections.abc import Callable, Iterator

from contexts.figures import Figures, dominant
from contexts.measurements import STEPS, About

GIGA, NETWORK = 1e9, 10e9 / 8  # of a network of 10 Gbit/s the bytes
Cell = Callable[[Figures], float | str]
Row = tuple[str, Cell]
RUNS = {"one": "a dagster run for each", "many": "one dagster run for all"}


def rows(about: About, workers: list[int]) -> Iterator[Row]:
    """Every row; a name without figures is a heading."""
    for step in STEPS:
        yield f"**{step}**", _nothing
        yield from _cost(step)
        yield from _moved(step)
        yield from _scaling(step, workers)
        yield from _utilization(step, about, workers[-1])
        yield from _overhead(step)
    yield "**pods of a block's step in Dagster**", _nothing
    for blocks, name in RUNS.items():
        yield f"seconds a block beyond its making, {name}", lambda f, b=blocks: f.pods_seconds(b)
        yield f"CPU seconds a block beyond its making, {name}", lambda f, b=blocks: f.pods_cpu(b)
    yield "**what dominates**", _nothing
    yield "seconds of 1 worker, with its start", lambda f: dominant(f.time())
    yield "dollars of 1 worker", lambda f: dominant(f.money())
    yield f"seconds of a block, {RUNS['one']}", lambda f: dominant(f.of_a_pod())
    yield "**cores that all else used meanwhile**", lambda f: f.others()


def _nothing(_: Figures) -> str:
    return ""


def _cost(step: str) -> Iterator[Row]:
    yield "seconds a gigavoxel, 1 worker", lambda f: f.seconds(step) / f.voxels * GIGA
    yield "CPU seconds a gigavoxel", lambda f: f.work(step) / f.voxels * GIGA
    yield (
        "dollars a gigavoxel, core and memory",
        lambda f: f.rent(f.seconds(step)) / f.voxels * GIGA,
    )
    yield "dollars a gigavoxel, requests", lambda f: f.requests(step) / f.voxels * GIGA


def _moved(step: str) -> Iterator[Row]:
    def requests(f: Figures, kind: str) -> float:
        moved = f.context.moved[step]
        return float(getattr(moved, f"{kind}writes") + getattr(moved, f"{kind}reads")) / f.blocks

    yield "bytes to the store, a voxel", lambda f: f.context.moved[step].sent / f.voxels
    yield "bytes from the store, a voxel", lambda f: f.context.moved[step].received / f.voxels
    yield "bytes on the pod's network, a voxel", lambda f: f.network(step) / f.voxels
    yield "requests a block, for chunks", lambda f: requests(f, "chunk_")
    yield "requests a block, others", lambda f: requests(f, "")


def _scaling(step: str, workers: list[int]) -> Iterator[Row]:
    for count in workers[1:]:
        yield f"times as fast, {count} workers, blocks alone", lambda f, n=count: f.faster(step, n)
        yield (
            f"times as fast, {count} workers, with their start",
            lambda f, n=count: f.seconds(step) / f.seconds(step, n),
        )


def _utilization(step: str, about: About, most: int) -> Iterator[Row]:
    def rate(f: Figures, workers: int) -> float:
        return f.bytes(step) / f.seconds(step, workers)

    yield "CPU: of a core, 1 worker", lambda f: _percent(f.work(step) / f.seconds(step))
    yield (
        f"CPU: of {about.cores} cores, {most} workers",
        lambda f: _percent(f.work(step, most) / f.seconds(step, most) / about.cores),
    )
    yield "memory: GB of the largest process", lambda f: f.step(step).memory / GIGA
    yield (
        f"memory: of the {about.memory:g} GB of a step's pod",
        lambda f: _percent(f.step(step).memory / GIGA / about.memory),
    )
    yield "store: MB/s, 1 worker", lambda f: rate(f, 1) / 1e6
    yield f"store: MB/s, {most} workers", lambda f: rate(f, most) / 1e6
    yield f"store: of 10 Gbit/s, {most} workers", lambda f: _percent(rate(f, most) / NETWORK)


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


def _overhead(step: str) -> Iterator[Row]:
    yield "seconds to start", lambda f: f.start(step)
    yield "CPU seconds to start", lambda f: f.step(step).idle_cpu
    if step == "segment":
        yield "CPU seconds to compile, once in a fresh pod", lambda f: f.compiled()
    yield "seconds a block outside of its making", lambda f: f.outside(step) / f.blocks
