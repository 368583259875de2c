"""The volume and the run that every context works on."""

from dataclasses import asdict
from pathlib import Path

from contexts.measuring import RUN, VOLUME
from seg_core.phantom import write_phantom
from seg_core.run import add_run, load_run
from seg_core.states import output_of
from seg_core.store import Store
from seg_core.train import train
from seg_core.validation.best import BEST, Best
from seg_core.volumes.declared import add_volume, load_volume

CHUNK, BLOCK, ITERATIONS = 32, 64, 40
MEMORY = 3  # GB of a run; the pod of a step asks for 1 more
VOLUME_FILE = f"raw: raw.zarr\nlabels: labels.zarr\nblock: {[BLOCK] * 3}\nchunk: {[CHUNK] * 3}\n"
RUN_FILE = f"""
datasplit:
  train: [{{volume: {VOLUME}, roi: '0:64, 0:64, 0:64'}}]
  validate: [{{volume: {VOLUME}, roi: '64:128, 0:64, 0:64'}}]
trainer: {{iterations: {ITERATIONS}, crop: [32, 32, 32]}}
compute: {{device: cpu, threads: 1, memory: {MEMORY}}}
"""


def prepared(folder: Path, shape: tuple[int, int, int]) -> Store:
    """A volume, and a run that has learnt enough for fragments like those of a better one."""
    store = Store(str(folder))
    write_phantom(store.path(f"volumes/{VOLUME}"), shape, 1)
    add_volume(store, VOLUME, VOLUME_FILE.encode(), "phantom.yaml")
    run = add_run(store, RUN, RUN_FILE.encode(), "r.yaml")
    train(run)
    choices = run.config.task.postprocess.choices()
    best = Best(ITERATIONS, choices[len(choices) // 2], "none", 0.0, {})  # no scores are needed
    store.write_json(f"{run.folder}/{BEST}", asdict(best))
    return store


def stored(store: Store) -> dict[str, int]:
    """Bytes of every array, packed."""
    volume = load_volume(store, VOLUME)
    output = output_of(load_run(store, RUN), volume)
    places = {"raw": volume.raw.uri} | {
        name: store.path(output.path(f"{name}.zarr"))
        for name in ("prediction", "fragments", "segmentation")
    }
    return {name: sum(store.fs.du(uri, total=False).values()) for name, uri in places.items()}
