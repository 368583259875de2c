"""What the same work costs in each context, and what of it: writes docs/contexts.md.

Contexts: a folder, and a store on gs:// (a fake-gcs-server), each for processes of this machine and
for a pod. Each is measured with 1 to N worker processes of the command `seg`, one step after the
other; then blocks as steps of Dagster, whose pods are their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import Cluster
from gcs_server import BUCKET, gcs_server, reached_at

from contexts.dagster_steps import SINGLE
from contexts.measurements import About, Context
from contexts.page import LOCAL, LOCAL_STORE, PODS, PODS_STORE, page
from contexts.pods import Pods, is_a_cluster_there
from contexts.project import BLOCK, CHUNK, MEMORY, prepared, stored
from seg_core.store import Store


def here(store: str, *options: str) -> Context:
    """Measure in this machine's own processes."""
    command = [sys.executable, "-m", "contexts.measuring", store, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Context.of_json(json.loads(done.stdout))


def say(what: str) -> None:
    """Say what is under way."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def contexts(store: Store, workers: list[int], pods: bool) -> Iterator[tuple[str, Context]]:
    """Measure each that there is."""
    asked = ("--workers", ",".join(map(str, workers)))
    say(LOCAL)
    yield LOCAL, here(store.uri, *asked)
    say(LOCAL_STORE)
    with gcs_server() as url, reached_at(url):
        yield LOCAL_STORE, here(f"gs://{BUCKET}/contexts", *asked, "--fill", store.uri)
    if not pods or not is_a_cluster_there():
        return
    say("the image, and pods of it")
    with Cluster() as cluster, Pods(cluster, max(workers), MEMORY + 1) as there:
        there.put(Path(store.uri))
        say(PODS)
        folder = there.measure("/store/contexts", *asked)
        say(PODS_STORE)
        remote = there.measure(f"gs://{BUCKET}/contexts", *asked, "--fill", "/store/contexts")
        say("blocks as steps of Dagster")
        folder.dagster, remote.dagster = there.in_dagster(Path(store.uri))
    yield PODS, folder
    yield PODS_STORE, remote


def up_to(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return sorted({2**n for n in range(most.bit_length()) if 2**n < most} | {most})


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="192,128,128", help="voxels of the volume")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="up to how many")
    parser.add_argument("--no-pods", action="store_true", help="without those on a cluster")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    parser.add_argument("--to", type=Path, default=Path("docs/contexts.md"))
    asked = parser.parse_args()
    z, y, x = (int(n) for n in asked.shape.split(","))
    blocks = -(-z // BLOCK) * -(-y // BLOCK) * -(-x // BLOCK)
    if z < 2 * BLOCK or min(y, x) < BLOCK or blocks <= SINGLE:
        parser.error(
            f"--shape {asked.shape}: expected at least {2 * BLOCK},{BLOCK},{BLOCK} "
            "(to train on one part and validate on another) and more than "
            f"{SINGLE} blocks of {BLOCK}^3, such as 128,128,64"
        )
    load = os.getloadavg()[0]
    with TemporaryDirectory() as name:
        say("a volume, and a trained run")
        store = prepared(Path(name), (z, y, x))
        found = dict(contexts(store, up_to(asked.workers), not asked.no_pods))
        sizes = stored(store)
    cores = os.cpu_count() or 1
    machine = f"{cores} cores, {platform.machine()}, Python {platform.python_version()}"
    about = About((z, y, x), BLOCK, CHUNK, cores, MEMORY + 1, machine, load, sizes)
    if asked.json:
        measured = {name: asdict(context) for name, context in found.items()}
        asked.json.write_text(json.dumps({"about": asdict(about), **measured}, indent=1))
    asked.to.parent.mkdir(exist_ok=True)
    asked.to.write_text(page(found, about))
    print(f"written: {asked.to}")


if __name__ == "__main__":
    main()
