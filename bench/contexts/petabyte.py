"""A petabyte on paper: what was measured, carried to 10^15 voxels."""

from collections.abc import Iterator

from contexts.figures import PRICES, Figures, Missing, dominant, priced
from contexts.measurements import STEPS
from contexts.table import plain

PETA, GIGA, HOUR, DAY, CORES = 1e15, 1e9, 3600, 86_400, 10_000
LATENCY = 0.03
"""Seconds until a small request is answered, in the bucket's region: assumed."""
BY_BLOCK = 3
"""Steps by block: prediction, fragments, segmentation."""

SIZES = {
    "chunks of 64^3, blocks of 512^3": (64, 512),
    "chunks of 128^3, blocks of 2048^3": (128, 2048),
}
DOLLARS = "dollars, "


def petabyte(contexts: dict[str, Figures]) -> Iterator[str]:
    """Assumptions, a table and what dominates, from the last context, whose store is a bucket."""
    name, figures = list(contexts.items())[-1]
    yield f"10^15 voxels of one byte, from the figures of *{name}* above, assuming:"
    yield ""
    yield from _assumed(figures)
    yield ""
    columns = {title: carried(figures, *sizes) for title, sizes in SIZES.items()}
    yield from plain(columns)
    yield ""
    for title, column in columns.items():
        money = {k.removeprefix(DOLLARS): v for k, v in column.items() if k.startswith(DOLLARS)}
        yield f"- With {title}, what dominates the money is {dominant(money)}."


def _assumed(figures: Figures) -> Iterator[str]:
    chunks = figures.voxels / figures.about.chunk**3
    writes, reads = (_sum(figures, name) / chunks for name in ("chunk_writes", "chunk_reads"))
    yield "- CPU seconds a voxel stay what they are (no GPU, which would take less)."
    yield (
        "- Any number of workers go on as one does: blocks are independent, but for the look-up "
        "table, which one process makes from all of them and which is not in here."
    )
    yield "- Bytes a voxel, packed, stay those of this phantom; real tissue differs."
    yield (
        f"- A chunk is asked for as often as here ({writes:.1f} writes and {reads:.1f} reads of "
        "every chunk of the volume, all steps): an upper bound, as large blocks share fewer "
        "chunks with their neighbours. Bytes likewise."
    )
    yield (
        "- A block's own requests are as many as here, whatever its size, one after the other, "
        f"{1000 * LATENCY:.0f} ms each, while its core waits; those for chunks are waited for by "
        "nobody."
    )
    yield f"- Prices in dollars: {', '.join(f'{name} {price}' for name, price in PRICES.items())}."
    yield f"- A core has the {figures.about.memory:g} GB that a step's pod asks for."


def _sum(figures: Figures, name: str) -> float:
    return float(sum(getattr(figures.context.moved[step], name) for step in STEPS))


def carried(figures: Figures, chunk: int, block: int) -> dict[str, float]:
    """Every row of a column."""
    about, larger, blocks = figures.about, PETA / figures.voxels, PETA / block**3
    smaller = larger * (about.chunk / chunk) ** 3
    chunk_writes, chunk_reads = (
        _sum(figures, name) * smaller for name in ("chunk_writes", "chunk_reads")
    )
    writes, reads = (_sum(figures, name) / figures.blocks * blocks for name in ("writes", "reads"))
    computing = sum(figures.work(step) for step in STEPS) * larger
    waiting = (writes + reads) * LATENCY
    days = (computing + waiting) / CORES / DAY
    moved = {name: _sum(figures, name) * larger for name in ("sent", "received")}
    kept = sum(about.stored.values()) * larger
    return {
        "blocks": blocks,
        "hours of cores, computing": computing / HOUR,
        "hours of cores, waiting for a block's own requests": waiting / HOUR,
        f"days on {CORES:,} cores": days,
        **_pods(figures, blocks),
        "requests for chunks": chunk_writes + chunk_reads,
        "requests for blocks": writes + reads,
        "terabytes to the store": moved["sent"] / 1e12,
        "terabytes from the store": moved["received"] / 1e12,
        "GB/s, all cores": sum(moved.values()) / days / DAY / GIGA,
        "terabytes stored, raw data and all results": kept / 1e12,
        f"{DOLLARS}cores and memory": figures.rent(computing + waiting),
        f"{DOLLARS}requests for chunks": priced(chunk_writes, chunk_reads),
        f"{DOLLARS}requests for blocks": priced(writes, reads),
        f"{DOLLARS}storage for a month": kept / GIGA * PRICES["storage, a GB for a month"],
    }


def _pods(figures: Figures, blocks: float) -> dict[str, float]:
    """What pods would add if each block of each step were a dagster run of its own."""
    try:
        seconds = figures.pods_seconds("one") * blocks * BY_BLOCK
    except Missing:
        return {}
    return {
        "hours of pods, were each block of each step a dagster run": seconds / HOUR,
        "what these would cost, in dollars": figures.rent(seconds),
    }
