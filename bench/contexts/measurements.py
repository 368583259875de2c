"""What is measured in a context, and how it travels: JSON."""

from dataclasses import dataclass, field
from typing import Any

STEPS = ("predict", "segment")


@dataclass
class Step:
    """What one step took; `idle` ones are of the same command where there is nothing to make.

    Attributes:
        seconds: from the command's start to its end.
        cpu: seconds of all its processes.
        idle: seconds to start Python and to look at the states of all blocks.
        idle_cpu: CPU seconds of that.
        in_blocks: seconds of all blocks together, as their records say.
        memory: bytes of the largest process.
        network: bytes through the network's interfaces, in and out, beyond those of the idle one.
        others: CPU seconds that all else on the machine took meanwhile.
    """

    seconds: float
    cpu: float
    idle: float
    idle_cpu: float
    in_blocks: float
    memory: int
    network: int
    others: float


@dataclass
class Moved:
    """What passed between one worker and the store, beyond what the idle command moves.

    Of a folder there are no requests.

    Attributes:
        writes: requests that write or list (class A), but for chunks of arrays.
        reads: requests that read (class B), but for chunks of arrays.
        chunk_writes: those that write chunks.
        chunk_reads: those that read chunks.
        sent: bytes to the store; of requests and answers their bodies.
        received: bytes from it.
    """

    writes: int
    reads: int
    chunk_writes: int
    chunk_reads: int
    sent: int
    received: int


@dataclass
class DagsterRun:
    """A dagster run of a step by block, whose pods are its own and that of its step.

    Attributes:
        blocks: how many it made.
        seconds: from its launch to its end.
        in_blocks: of these, what the blocks' records say.
        cpu: seconds of its pods; None where it could not be seen.
    """

    blocks: int
    seconds: float
    in_blocks: float
    cpu: float | None


@dataclass
class Context:
    """All measurements in one context.

    Attributes:
        pod: whether they were made in one.
        steps: by number of workers and step.
        moved: by step.
        compiled: CPU seconds that the first `segment` took more than the later one, as it compiled
            what is then kept; None where it was not the first in its place.
        dagster: of one block (in the median), and of many; empty where it was not measured.
    """

    pod: bool = False
    steps: dict[int, dict[str, Step]] = field(default_factory=dict)
    moved: dict[str, Moved] = field(default_factory=dict)
    compiled: float | None = None
    dagster: list[DagsterRun] = field(default_factory=list)

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> "Context":
        """What `asdict` and JSON made of one."""
        steps = {
            int(workers): {name: Step(**step) for name, step in some.items()}
            for workers, some in content["steps"].items()
        }
        moved = {name: Moved(**some) for name, some in content["moved"].items()}
        runs = [DagsterRun(**some) for some in content["dagster"]]
        return cls(content["pod"], steps, moved, content["compiled"], runs)


@dataclass(frozen=True)
class About:
    """What all contexts have in common.

    Attributes:
        shape: voxels of the volume.
        block, chunk: voxels along every axis.
        cores: of the machine, and of a pod at most.
        memory: GB that the pod of a step asks for.
        machine: in words.
        load: of the machine in the minute before anything was measured.
        stored: bytes of every array, packed.
    """

    shape: tuple[int, int, int]
    block: int
    chunk: int
    cores: int
    memory: float
    machine: str
    load: float
    stored: dict[str, int]
