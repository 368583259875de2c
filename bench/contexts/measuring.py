"""Measures the command `seg` in the place where it runs, a pod as well: prints JSON.

    python -m contexts.measuring STORE --workers 1,2 [--fill FOLDER]

Beside itself it needs `seg_core` and `faulty_proxy.py`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from faulty_proxy import FaultyProxy, Traffic

from contexts.measurements import STEPS, Context, Moved, Step
from seg_core.run import load_run
from seg_core.states import states_of
from seg_core.store import Store
from seg_core.volumes.declared import load_volume

RUN, VOLUME = "r", "phantom"
MADE = {"predict": ("prediction",), "segment": ("fragments", "segmentation")}
EMULATOR = "STORAGE_EMULATOR_HOST"
TICKS = os.sysconf("SC_CLK_TCK")


SEG = "from seg_core.cli import main; main()"
READING = """
import atexit, json, os, stat, sys
store, read = os.environ["SEG_STORE"], [0]

def look(event, arguments):
    if event == "open" and str(arguments[0]).startswith(store) and not arguments[2] & 3:
        found = os.stat(arguments[0])
        read[0] += found.st_size if stat.S_ISREG(found.st_mode) else 0

def tell():
    import tensorstore
    name = "/tensorstore/kvstore/file/bytes_read"
    found = tensorstore.experimental_collect_matching_metrics(name)
    print(read[0] + sum(metric["values"][0]["value"] for metric in found), file=sys.stderr)

sys.addaudithook(look)
atexit.register(tell)
"""
"""Before `SEG`: prints how many bytes of the folder were read, by Python and by tensorstore."""


@dataclass
class Used:
    """What a command took; `busy` is CPU seconds of the whole machine, `printed` its stderr."""

    seconds: float
    cpu: float
    memory: int
    written: int
    network: int
    busy: float
    printed: str


def command(store: str, *arguments: str, code: str = SEG) -> Used:
    """Run `seg`, and count until it and all that it started have ended."""
    before, began = _counters(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--json"],
        env={**os.environ, "SEG_STORE": store},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    printed = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"seg {' '.join(arguments)} failed: {printed[-2000:]}")
    seconds = time.monotonic() - began
    written, network, busy = (b - a for a, b in zip(before, _counters(), strict=True))
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    return Used(seconds, cpu, memory, written, network, busy / TICKS, printed)


def _counters() -> tuple[int, int, int]:
    """Bytes written, those of children that have ended too; network; ticks of all cores in use."""
    files = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    network = 0
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        interface, _, fields = line.partition(":")
        if interface.strip() != "lo":
            network += int(fields.split()[0]) + int(fields.split()[8])
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
    return int(files["wchar"]), network, sum(map(int, (user, nice, system, *interrupts)))


def _first(store: Store) -> Used:
    """`segment` in a place where nothing is compiled; what is, is kept, and counted no more."""
    store.remove(f"runs/{RUN}/{VOLUME}")
    for step in STEPS:
        used = command(store.uri, step, RUN, VOLUME, "--workers", "1")
    return used


def measure(store: Store, workers: int, idle: dict[str, Used]) -> dict[str, Step]:
    """Both steps, from nothing; `idle` is filled once, as no worker starts for nothing."""
    store.remove(f"runs/{RUN}/{VOLUME}")
    found = {}
    for step in STEPS:
        arguments = (step, RUN, VOLUME, "--workers", str(workers))
        work = command(store.uri, *arguments)
        if step not in idle:
            idle[step] = command(store.uri, *arguments)
        found[step] = Step(
            work.seconds,
            work.cpu,
            idle[step].seconds,
            idle[step].cpu,
            _in_blocks(store, step),
            work.memory,
            work.network - idle[step].network,
            max(0.0, work.busy - work.cpu),
        )
    return found


def _in_blocks(store: Store, step: str) -> float:
    states = states_of(load_run(store, RUN), load_volume(store, VOLUME))
    return sum(
        state.record.figures["seconds"] for name in MADE[step] for state in states[name].values()
    )


def count(store: Store) -> dict[str, Moved]:
    """What both steps move to and from the store, by one worker."""
    store.remove(f"runs/{RUN}/{VOLUME}")
    if store.is_local:
        return {step: _beyond_idle(lambda step=step: _files(store, step)) for step in STEPS}
    server = os.environ[EMULATOR]
    with FaultyProxy(server) as proxy:
        os.environ[EMULATOR] = proxy.url
        found = {
            step: _beyond_idle(lambda step=step: _requests(store, step, proxy.traffic))
            for step in STEPS
        }
    os.environ[EMULATOR] = server
    return found


def _beyond_idle(moved: Callable[[], Moved]) -> Moved:
    working, idle = astuple(moved()), astuple(moved())
    return Moved(*(a - b for a, b in zip(working, idle, strict=True)))


def _files(store: Store, step: str) -> Moved:
    used = command(store.uri, step, RUN, VOLUME, "--workers", "1", code=READING + SEG)
    return Moved(0, 0, 0, 0, used.written, int(used.printed.split()[-1]))


def _requests(store: Store, step: str, traffic: Traffic) -> Moved:
    traffic.clear()
    command(store.uri, step, RUN, VOLUME, "--workers", "1")
    # a removal is free of charge; a listing costs what a write costs
    writes = [r for r in traffic.requests if r.method == "POST" or r.path.endswith("/o")]
    reads = [r for r in traffic.requests if r.method == "GET" and not r.path.endswith("/o")]
    of_chunks = [sum("/0/c/" in r.path + r.query for r in some) for some in (writes, reads)]
    others = (len(writes) - of_chunks[0], len(reads) - of_chunks[1])
    return Moved(*others, *of_chunks, traffic.sent, traffic.received)


def main() -> None:
    """Measure one context."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--workers", default="1", help="numbers of processes")
    parser.add_argument("--fill", help="the folder whose volumes and runs the store gets first")
    asked = parser.parse_args()
    store, found = Store(asked.store), Context(pod="KUBERNETES_SERVICE_HOST" in os.environ)
    if asked.fill:
        for part in ("volumes", "runs"):
            store.fs.put(f"{asked.fill}/{part}", store.path(part), recursive=True)
    first = _first(store).cpu if store.is_local else None
    found.moved = count(store)
    idle: dict[str, Used] = {}
    for workers in asked.workers.split(","):
        found.steps[int(workers)] = measure(store, int(workers), idle)
    if first is not None:
        # no less than 0: on a machine where all was compiled before, the rest is chance
        found.compiled = max(0.0, first - found.steps[1]["segment"].cpu)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
