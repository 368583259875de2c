"""The page of `contexts.py`: its table, and the same carried to a petabyte on paper."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

PRICES = {
    "vCPU, an hour": 0.0317,
    "memory, a GB for an hour": 0.0042,
    "1,000 requests that write or list": 0.005,
    "1,000 requests that read": 0.0004,
    "storage, a GB for a month": 0.020,
}
"""US dollars, as assumed: on demand, one region, no discount. Put yours here."""

LATENCY = 0.03
"""Seconds until a small request is answered, in the bucket's region: assumed."""

PETA, GIGA = 1e15, 1e9
STEPS = ("predict", "segment")
Facts = dict[str, Any]
"""A context's measurements: `steps` by workers and step, `moved` by step."""
Rows = Iterator[tuple[str, Callable[[Facts], float]]]
"""What a row is called, and its figure in a context."""


def page(contexts: dict[str, Facts], about: Facts) -> str:
    """Markdown; `about` says shape, block, chunk, bytes of arrays, machine and its load."""
    voxels = prod(about["shape"])
    blocks = prod(-(-n // about["block"]) for n in about["shape"])
    size = " x ".join(map(str, about["shape"]))
    return "\n".join(
        [
            "# Contexts compared",
            "",
            "Made by `make contexts`; to write on it, change `bench/contexts_page.py`.",
            "",
            f"{size} voxels in {blocks} blocks of {about['block']}^3 and chunks of "
            f"{about['chunk']}^3, default network and task, on {about['machine']}. The object "
            "store is a fake-gcs-server in the memory of the same machine: its figures hold no "
            "time on a network, while its own CPU takes a share of the same cores. Blocks are "
            "small here, so what a block costs shows, and halos are large. What a command asks "
            "for that has nothing to do is not counted.",
            "",
            "## Work, bytes, requests, money",
            "",
            *_table(contexts, _amounts(voxels, blocks)),
            "",
            "## On the clock",
            "",
            *_clock(contexts, about, voxels, blocks),
            "",
            *_missing(contexts),
            "## A petabyte on paper",
            "",
            *_petabyte(contexts["object store"], about, voxels),
            "",
        ]
    )


def _clock(contexts: dict[str, Facts], about: Facts, voxels: int, blocks: int) -> Iterator[str]:
    yield f"Load of the machine at the end: {about['load']:.1f}; one worker alone makes about 1."
    yield ""
    if about["load"] > 2 * about["cores"]:
        yield (
            "**Others used it at the same time, so seconds, utilization and scaling, which mean "
            "nothing then, are left out: make the page again on a machine of your own.**"
        )
    else:
        yield from _table(contexts, _times(voxels, blocks))


def _missing(contexts: dict[str, Facts]) -> Iterator[str]:
    if "pods, shared claim" not in contexts:
        yield (
            "Pods with a shared claim were not measured here: the command fills their column from "
            "a file of the same measurements (`--pods FILE`: one context of what `--json` writes)."
        )
        yield ""


def _table(contexts: dict[str, Facts], rows: Rows) -> Iterator[str]:
    yield "| | " + " | ".join(contexts) + " |"
    yield "|---|" + "--:|" * len(contexts)
    for name, figure in rows:
        yield (
            f"| {name} | " + " | ".join(_shown(figure, facts) for facts in contexts.values()) + " |"
        )


def _shown(figure: Callable[[Facts], float], facts: Facts) -> str:
    try:
        return number(figure(facts))
    except KeyError:
        return "-"


def number(value: float) -> str:
    """Three digits, as people write them."""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _of(name: str, step: str, workers: int = 1) -> Callable[[Facts], float]:
    return lambda facts: float(facts["steps"][workers][step][name])


def _moved(step: str, *names: str) -> Callable[[Facts], float]:
    return lambda facts: float(sum(facts["moved"][step][name] for name in names))


def work(facts: Facts, step: str) -> float:
    """CPU seconds beyond those of a command that has nothing to do."""
    return _of("cpu", step)(facts) - _of("idle_cpu", step)(facts)


def _amounts(voxels: int, blocks: int) -> Rows:
    """Rows that a busy machine changes little."""
    for step in STEPS:
        own, chunks = _moved(step, "writes", "reads"), _moved(step, "chunk_writes", "chunk_reads")
        sent, received, memory = _moved(step, "sent"), _moved(step, "received"), _of("memory", step)
        yield (
            f"{step}: CPU seconds per gigavoxel",
            lambda f, step=step: work(f, step) / voxels * GIGA,
        )
        yield (
            f"{step}: dollars per gigavoxel, CPU",
            lambda f, step=step: money(f, step)["CPU"] / voxels * GIGA,
        )
        yield (
            f"{step}: dollars per gigavoxel, requests",
            lambda f, step=step: money(f, step)["requests"] / voxels * GIGA,
        )
        yield f"{step}: CPU seconds to start", _of("idle_cpu", step)
        yield f"{step}: GB of the largest process", lambda f, m=memory: m(f) / GIGA
        yield f"{step}: requests of a block, not for chunks", lambda f, own=own: own(f) / blocks
        yield f"{step}: requests of a block, for chunks", lambda f, c=chunks: c(f) / blocks
        yield f"{step}: bytes up, a voxel", lambda f, sent=sent: sent(f) / voxels
        yield f"{step}: bytes down, a voxel", lambda f, received=received: received(f) / voxels


def _times(voxels: int, blocks: int) -> Rows:
    """Rows of the clock."""
    for step in STEPS:
        moved = _moved(step, "sent", "received")

        def took(facts: Facts, workers: int = 1, step: str = step) -> float:
            return _of("seconds", step, workers)(facts) - _of("idle", step, workers)(facts)

        yield f"{step}: seconds per gigavoxel, 1 worker", lambda f, t=took: t(f) / voxels * GIGA
        yield f"{step}: seconds to start", _of("idle", step)
        yield (
            f"{step}: seconds a block outside of its making",
            lambda f, t=took, step=step: (t(f) - _of("in_blocks", step)(f)) / blocks,
        )
        yield (
            f"{step}: share of one core in use, 1 worker",
            lambda f, t=took, step=step: work(f, step) / t(f),
        )
        yield (
            f"{step}: times as fast with all workers",
            lambda f, t=took: t(f) / t(f, max(f["steps"])),
        )
        yield f"{step}: MB/s moved, 1 worker", lambda f, t=took, m=moved: m(f) / t(f) / 1e6


def money(facts: Facts, step: str) -> dict[str, float]:
    """Dollars of what was measured by one worker."""
    moved = facts.get("moved", {}).get(step)
    found = {"CPU": work(facts, step) / 3600 * PRICES["vCPU, an hour"]}
    if moved:
        writes = moved["writes"] + moved["chunk_writes"]
        reads = moved["reads"] + moved["chunk_reads"]
        found["requests"] = _requests(writes, reads)
    return found


def _requests(writes: float, reads: float) -> float:
    return (
        writes * PRICES["1,000 requests that write or list"]
        + reads * PRICES["1,000 requests that read"]
    ) / 1000


def _petabyte(facts: Facts, about: Facts, voxels: int) -> Iterator[str]:
    larger = PETA / voxels
    yield "10^15 voxels of one byte, from the figures of the object store above, assuming:"
    yield ""
    yield "- CPU seconds a voxel stay what they are (no GPU, which would take less)."
    yield "- Bytes a voxel, packed, stay those of this phantom; real tissue differs."
    yield (
        f"- A chunk is asked for as often as here ({_per_chunk(facts, about, voxels)}): an upper "
        "bound, as large blocks share fewer chunks with their neighbours."
    )
    yield (
        "- A block's own requests are as many as here, whatever its size, one after the other, "
        f"{1000 * LATENCY:.0f} ms each."
    )
    yield f"- Prices in dollars: {', '.join(f'{name} {price}' for name, price in PRICES.items())}."
    yield ""
    yield "| | chunks of 64^3, blocks of 512^3 | chunks of 128^3, blocks of 2048^3 |"
    yield "|---|--:|--:|"
    columns = [_carried(facts, about, larger, *sizes) for sizes in ((64, 512), (128, 2048))]
    for name in columns[0]:
        yield f"| {name} | " + " | ".join(number(column[name]) for column in columns) + " |"
    yield ""
    for title, column in zip(("chunks of 64^3", "chunks of 128^3"), columns, strict=True):
        items = {k: v for k, v in column.items() if k.startswith("dollars")}
        most = max(items, key=lambda name: items[name])
        share = items[most] / sum(items.values())
        yield f"With {title} {share:.0%} of the money goes to: {most.removeprefix('dollars, ')}."


def _per_chunk(facts: Facts, about: Facts, voxels: int) -> str:
    chunks = voxels / about["chunk"] ** 3
    writes, reads = (_sum(facts, name) / chunks for name in ("chunk_writes", "chunk_reads"))
    return f"{writes:.1f} writes and {reads:.1f} reads of every chunk of the volume, all steps"


def _sum(facts: Facts, name: str) -> float:
    return float(sum(facts["moved"][step][name] for step in STEPS))


def _carried(facts: Facts, about: Facts, larger: float, chunk: int, block: int) -> dict[str, float]:
    """Every row of a column."""
    smaller = larger * (about["chunk"] / chunk) ** 3
    fewer = larger * (about["block"] / block) ** 3
    chunk_writes, chunk_reads = (
        _sum(facts, name) * smaller for name in ("chunk_writes", "chunk_reads")
    )
    writes, reads = (_sum(facts, name) * fewer for name in ("writes", "reads"))
    hours = sum(work(facts, step) for step in STEPS) * larger / 3600
    kept = sum(about["stored"].values()) * larger / GIGA
    return {
        "blocks": PETA / block**3,
        "CPU hours": hours,
        "days on 10,000 cores": hours / 10_000 / 24,
        "requests for chunks": chunk_writes + chunk_reads,
        "requests for blocks": writes + reads,
        "seconds that a block waits for its own requests": (writes + reads)
        / (PETA / block**3)
        * LATENCY,
        "terabytes up": _sum(facts, "sent") * larger / 1e12,
        "terabytes down": _sum(facts, "received") * larger / 1e12,
        "terabytes stored, raw data and all results": kept / 1e3,
        "dollars, CPU": hours * PRICES["vCPU, an hour"],
        "dollars, requests for chunks": _requests(chunk_writes, chunk_reads),
        "dollars, requests for blocks": _requests(writes, reads),
        "dollars, storage for a month": kept * PRICES["storage, a GB for a month"],
    }
