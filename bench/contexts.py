"""What the same work costs in each context, and what of it: writes docs/contexts.md.

Contexts: a folder of this machine, and a store on gs:// (a fake-gcs-server of this machine). Each
is measured with 1 to N worker processes of the command `seg`, one step after the other.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from seg_core.phantom import write_phantom
from seg_core.run import add_run
from seg_core.states import output_of, states_of
from seg_core.store import Store
from seg_core.train import train
from seg_core.validation.best import BEST, Best
from seg_core.volumes.declared import Volume, add_volume, load_volume

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from contexts_page import page
from faulty_proxy import FaultyProxy, Traffic
from gcs_server import BUCKET, gcs_server, reached_at

STEPS = ("predict", "segment")
MADE = {"predict": ("prediction",), "segment": ("fragments", "segmentation")}
CHUNK, BLOCK = 32, 64
VOLUME = f"raw: raw.zarr\nlabels: labels.zarr\nblock: {[BLOCK] * 3}\nchunk: {[CHUNK] * 3}\n"
ITERATIONS = 40
RUN = f"""
datasplit:
  train: [{{volume: v, roi: '0:64, 0:64, 0:64'}}]
  validate: [{{volume: v, roi: '64:128, 0:64, 0:64'}}]
trainer: {{iterations: {ITERATIONS}, crop: [32, 32, 32]}}
compute: {{device: cpu, threads: 1}}
"""


@dataclass
class Step:
    """What one step took.

    Attributes:
        seconds: from the command's start to its end.
        cpu: seconds of all processes.
        idle, idle_cpu: the same where there is nothing to make: start of Python, states of blocks.
        in_blocks: seconds of all blocks together, as their records say.
        memory: bytes of the largest process.
    """

    seconds: float
    cpu: float
    idle: float
    idle_cpu: float
    in_blocks: float
    memory: int


@dataclass
class Moved:
    """What passed between the processes and the object store.

    Attributes:
        writes: requests that write or list (class A), but for chunks of arrays.
        reads: requests that read (class B), but for chunks of arrays.
        chunk_writes: those that write chunks.
        chunk_reads: those that read chunks.
        sent: bytes to the store.
        received: bytes from it.
    """

    writes: int
    reads: int
    chunk_writes: int
    chunk_reads: int
    sent: int
    received: int


@dataclass
class Context:
    """All measurements in one context, by number of workers and step."""

    steps: dict[int, dict[str, Step]] = field(default_factory=dict)
    moved: dict[str, Moved] = field(default_factory=dict)


def command(store: str, *arguments: str) -> tuple[float, float, int]:
    """Run `seg`; returns seconds, CPU seconds and bytes of the largest process."""
    code = "from seg_core.cli import main; main()"
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--json"],
        env={**os.environ, "SEG_STORE": store},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"seg {' '.join(arguments)} failed: {said.decode()[-2000:]}")
    seconds = time.monotonic() - began
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def prepared(folder: Path, shape: tuple[int, int, int]) -> Store:
    """A volume, and a run that has learnt enough for fragments like those of a better one."""
    store = Store(str(folder / "store"))
    write_phantom(store.path("volumes/v"), shape, 1)
    add_volume(store, "v", VOLUME.encode(), "v.yaml")
    run = add_run(store, "r", RUN.encode(), "r.yaml")
    train(run)
    choices = run.config.task.postprocess.choices()
    best = Best(ITERATIONS, choices[len(choices) // 2], "none", 0.0, {})  # no scores are needed
    store.write_json(f"{run.folder}/{BEST}", asdict(best))
    return store


def measure(store: Store, workers: int) -> dict[str, Step]:
    """Both steps, from nothing."""
    store.remove("runs/r/v")
    found = {}
    for step in STEPS:
        arguments = (step, "r", "v", "--workers", str(workers))
        seconds, cpu, memory = command(store.uri, *arguments)
        idle, idle_cpu, _ = command(store.uri, *arguments)
        found[step] = Step(seconds, cpu, idle, idle_cpu, _in_blocks(store, step), memory)
    return found


def _in_blocks(store: Store, step: str) -> float:
    run, volume = add_run(store, "r", RUN.encode(), "r.yaml"), load_volume(store, "v")
    states = states_of(run, volume)
    return sum(
        state.record.figures["seconds"] for name in MADE[step] for state in states[name].values()
    )


def count(store: Store, proxy: FaultyProxy) -> dict[str, Moved]:
    """What both steps move, by one worker, beyond what a command does that has nothing to do."""
    store.remove("runs/r/v")
    found = {}
    for step in STEPS:
        working, idle = (_during(store, step, proxy) for _ in range(2))
        pairs = zip(astuple(working), astuple(idle), strict=True)
        found[step] = Moved(*(a - b for a, b in pairs))
    return found


def _during(store: Store, step: str, proxy: FaultyProxy) -> Moved:
    proxy.traffic.clear()
    command(store.uri, step, "r", "v", "--workers", "1")
    return _moved(proxy.traffic)


def _moved(traffic: Traffic) -> Moved:
    # a removal is free of charge; a listing costs what a write costs
    writes = [r for r in traffic.requests if r.method == "POST" or r.path.endswith("/o")]
    reads = [r for r in traffic.requests if r.method == "GET" and not r.path.endswith("/o")]
    of_chunks = [sum("/0/c/" in r.path + r.query for r in some) for some in (writes, reads)]
    others = (len(writes) - of_chunks[0], len(reads) - of_chunks[1])
    return Moved(*others, *of_chunks, traffic.sent, traffic.received)


def contexts(folder: Path, shape: tuple[int, int, int], most: int) -> Iterator[tuple[str, Context]]:
    """Measure each."""
    local = prepared(folder, shape)
    here = Context()
    for workers in range(1, most + 1):
        here.steps[workers] = measure(local, workers)
    yield "local folder", here
    with gcs_server() as url, FaultyProxy(url) as proxy, reached_at(url):
        remote, there = Store(f"gs://{BUCKET}/contexts"), Context()
        for part in ("volumes", "runs"):
            remote.fs.put(local.path(part), remote.path(part), recursive=True)
        for workers in range(1, most + 1):
            there.steps[workers] = measure(remote, workers)
        with reached_at(proxy.url):
            there.moved = count(remote, proxy)
    yield "object store", there


def stored(volume: Volume, store: Store) -> dict[str, int]:
    """Bytes of every array, packed."""
    output = output_of(add_run(store, "r", RUN.encode(), "r.yaml"), volume)
    places = {"raw": volume.raw.uri} | {
        name: store.path(output.path(f"{name}.zarr"))
        for name in ("prediction", "fragments", "segmentation")
    }
    return {name: sum(store.fs.du(uri, total=False).values()) for name, uri in places.items()}


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="128,128,128", help="voxels of the volume")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="up to how many")
    parser.add_argument("--pods", type=Path, help="JSON of the same, measured on a cluster")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    parser.add_argument("--to", type=Path, default=Path("docs/contexts.md"))
    asked = parser.parse_args()
    z, y, x = (int(n) for n in asked.shape.split(","))
    with TemporaryDirectory() as name:
        found = {n: asdict(c) for n, c in contexts(Path(name), (z, y, x), asked.workers)}
        local = Store(f"{name}/store")
        sizes = stored(load_volume(local, "v"), local)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    if asked.pods:
        found["pods, shared claim"] = json.loads(asked.pods.read_text(), object_hook=_numbered)
    about = {"shape": (z, y, x), "block": BLOCK, "chunk": CHUNK, "stored": sizes} | machine()
    asked.to.parent.mkdir(exist_ok=True)
    asked.to.write_text(page(found, about))
    print(f"written: {asked.to}")


def machine() -> dict[str, object]:
    """What it was measured on."""
    said = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"machine": said, "cores": os.cpu_count(), "load": os.getloadavg()[2]}


def _numbered(content: dict[str, object]) -> dict[object, object]:
    """JSON has no numbers for keys, and those of workers are."""
    return {int(k) if k.isdigit() else k: v for k, v in content.items()}


if __name__ == "__main__":
    main()
