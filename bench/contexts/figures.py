"""What follows from the measurements of a context: work, money, overhead, what dominates."""

from dataclasses import dataclass
from math import ceil, prod

from contexts.measurements import STEPS, About, Context, DagsterRun, Step

PRICES = {
    "vCPU, an hour": 0.0317,
    "memory, a GB for an hour": 0.0042,
    "1,000 requests that write or list": 0.005,
    "1,000 requests that read": 0.0004,
    "storage, a GB for a month": 0.020,
}
"""US dollars, as assumed: on demand, one region, no discount. Put yours here."""

BUSY = 0.75
"""Cores in use by others above which seconds mean nothing."""


class Missing(Exception):
    """It was not measured, or while others used the machine."""


@dataclass(frozen=True)
class Figures:
    """Of one context; all of the clock raise `Missing` where others worked meanwhile."""

    context: Context
    about: About

    @property
    def voxels(self) -> int:
        """Of the volume."""
        return prod(self.about.shape)

    @property
    def blocks(self) -> int:
        """Of the volume."""
        return prod(ceil(n / self.about.block) for n in self.about.shape)

    def step(self, name: str, workers: int = 1) -> Step:
        """The measurements of a step."""
        return self.context.steps[workers][name]

    def others(self) -> float:
        """Cores that all else used meanwhile: a store's server, the cluster's own, and others."""
        steps = [step for some in self.context.steps.values() for step in some.values()]
        return sum(step.others for step in steps) / sum(step.seconds for step in steps)

    def seconds(self, name: str, workers: int = 1) -> float:
        """Beyond those of a command that has nothing to do."""
        self._refuse_if_busy()
        step = self.step(name, workers)
        return step.seconds - step.idle

    def outside(self, name: str) -> float:
        """Of one worker's seconds those that no block's record has."""
        return max(0.0, self.seconds(name) - self.step(name).in_blocks)

    def faster(self, name: str, workers: int) -> float:
        """How many times as fast blocks are made, whatever workers take to start."""
        self._refuse_if_busy()
        return workers * self.step(name).in_blocks / self.step(name, workers).in_blocks

    def _refuse_if_busy(self) -> None:
        if self.others() > BUSY:
            raise Missing

    def start(self, name: str) -> float:
        """Seconds of a command that has nothing to do."""
        self._refuse_if_busy()
        return self.step(name).idle

    def work(self, name: str, workers: int = 1) -> float:
        """CPU seconds beyond those of a command that has nothing to do."""
        step = self.step(name, workers)
        return step.cpu - step.idle_cpu

    def compiled(self) -> float:
        """CPU seconds of the first `segment` in a new place, a fresh pod, to compile."""
        if self.context.compiled is None:
            raise Missing
        return self.context.compiled

    def rent(self, seconds: float) -> float:
        """Dollars of a core and a pod's memory for so long."""
        hourly = PRICES["vCPU, an hour"] + self.about.memory * PRICES["memory, a GB for an hour"]
        return seconds / 3600 * hourly

    def requests(self, name: str) -> float:
        """Dollars of a step's requests."""
        moved = self.context.moved[name]
        return priced(moved.writes + moved.chunk_writes, moved.reads + moved.chunk_reads)

    def bytes(self, name: str) -> int:
        """To and from the store."""
        return self.context.moved[name].sent + self.context.moved[name].received

    def network(self, name: str) -> int:
        """Bytes of the pod's interfaces, in and out."""
        if not self.context.pod:
            raise Missing  # others use those of the machine
        return self.step(name).network

    def time(self) -> dict[str, float]:
        """Where one worker's seconds go, start included."""
        found = {}
        for name in STEPS:
            in_blocks = self.step(name).in_blocks
            computing = min(in_blocks, self.work(name))
            found[f"{name}, computing in blocks"] = computing
            found[f"{name}, waiting in blocks"] = in_blocks - computing
            found[f"{name}, outside of blocks"] = self.outside(name)
            found[f"{name}, start"] = self.start(name)
        return found

    def money(self) -> dict[str, float]:
        """Where one worker's dollars go, without start."""
        found = {}
        for name in STEPS:
            found[f"{name}, core and memory"] = self.rent(self.seconds(name))
            found[f"{name}, requests"] = self.requests(name)
        return found

    def dagster_run(self, blocks: str) -> DagsterRun:
        """That of `one` block or of `many`."""
        if not self.context.dagster:
            raise Missing
        return self.context.dagster[("one", "many").index(blocks)]

    def pods_seconds(self, blocks: str) -> float:
        """Seconds a block, beyond its making, of a dagster run."""
        self._refuse_if_busy()
        run = self.dagster_run(blocks)
        return (run.seconds - run.in_blocks) / run.blocks

    def pods_cpu(self, blocks: str) -> float:
        """CPU seconds a block of a dagster run's pods, beyond those of `predict` on a block."""
        run = self.dagster_run(blocks)
        if run.cpu is None:
            raise Missing
        return run.cpu / run.blocks - self.work("predict") / self.blocks

    def of_a_pod(self) -> dict[str, float]:
        """Where the seconds go of a block that is a dagster run of its own."""
        run = self.dagster_run("one")
        making = run.in_blocks / run.blocks
        return {"pods and Dagster": self.pods_seconds("one"), "making the block": making}


def priced(writes: float, reads: float) -> float:
    """Dollars of requests."""
    return (
        writes * PRICES["1,000 requests that write or list"]
        + reads * PRICES["1,000 requests that read"]
    ) / 1000


def dominant(parts: dict[str, float]) -> str:
    """The largest part, and its share of all."""
    largest = max(parts, key=lambda name: parts[name])
    return f"{largest}: {parts[largest] / sum(parts.values()):.0%}"
