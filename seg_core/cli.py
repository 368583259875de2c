"""The `seg` command: every step without Dagster."""

import json
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from seg_core.errors import SegError
from seg_core.store import Store

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
STORE = click.option(
    "--store", metavar="URI", help="The store; $SEG_STORE or .local/store unless given."
)
FORCE = click.option("--force", is_flag=True, help="Make blocks again that are done already.")
WORKERS = click.option("--workers", type=click.IntRange(1), help="Processes; else as the run says.")


class _Commands(click.Group):
    """A group whose commands turn what the user can mend into one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SegError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def seg() -> None:
    """Segment microscopy volumes: import, declare, train, validate, predict, segment.

    \b
    The path of a new project:
      seg import raw.tif   .local/store/volumes/NAME/raw.zarr    --voxel-size 8,8,8
      seg import truth.tif .local/store/volumes/NAME/labels.zarr --voxel-size 8,8,8 --labels
      seg volume add NAME.yaml
      seg run add RUN.yaml
      seg train RUN; seg validate RUN; seg predict RUN NAME; seg segment RUN NAME
    Stop any of it and give the same command again: what is done is passed over.
    """


def main() -> None:
    """Entry point; a SIGTERM ends the command as Ctrl-C does, with everything done recorded."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = seg.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo(
            "interrupted; what is done is kept, the same command goes on from there", err=True
        )
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def _show(result: Any, as_json: bool, lines: Callable[[], list[str]]) -> None:
    click.echo(json.dumps(result, indent=1) if as_json else "\n".join(lines()))


def _numbers(of: type, name: str) -> Callable[[Any, Any, str | None], Any]:
    """A click callback for three numbers with commas."""

    def parse(_: Any, __: Any, text: str | None) -> Any:
        if text is None:
            return None
        try:
            z, y, x = (of(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r}: expected {name} as Z,Y,X") from None
        return z, y, x

    return parse


@seg.command("import")
@click.argument("source")
@click.argument("dest")
@click.option(
    "--voxel-size",
    metavar="Z,Y,X",
    callback=_numbers(float, "nanometres"),
    help="Nanometres; needed where the file does not say.",
)
@click.option("--labels", is_flag=True, help="The voxels are object ids.")
@click.option("--roi", metavar="SLICES", help="A part only, in voxels: '0:160, :, :'.")
@click.option(
    "--chunk",
    metavar="Z,Y,X",
    default="64,64,64",
    show_default=True,
    callback=_numbers(int, "voxels"),
    help="Voxels of a chunk.",
)
@JSON
def import_(
    source: str,
    dest: str,
    voxel_size: Any,
    labels: bool,
    roi: str | None,
    chunk: Any,
    as_json: bool,
) -> None:
    """Bring SOURCE in as the OME-Zarr DEST.

    SOURCE is a TIFF, a folder of TIFF or PNG slices, HDF5 (file.h5:dataset), NIfTI, N5, or Zarr.
    """
    from seg_core.volumes.importing import import_array

    array = import_array(source, dest, voxel_size=voxel_size, labels=labels, roi=roi, chunk=chunk)
    result = {
        "uri": array.uri,
        "shape": list(array.box.shape),
        "dtype": array.dtype,
        "voxel_size": list(array.voxel_size),
    }
    _show(
        result,
        as_json,
        lambda: [f"{array.uri}: {array.box.shape} {array.dtype}, {array.voxel_size} nm"],
    )


@seg.command()
@click.argument("dest")
@click.option(
    "--shape",
    metavar="Z,Y,X",
    default="96,128,128",
    show_default=True,
    callback=_numbers(int, "voxels"),
)
@click.option("--seed", default=0, show_default=True)
@JSON
def phantom(dest: str, shape: Any, seed: int, as_json: bool) -> None:
    """Make an EM-like volume with its ground truth: DEST/raw.zarr and DEST/labels.zarr."""
    from seg_core.phantom import write_phantom

    if min(shape) < 1:
        raise SegError(f"--shape {shape}: every side needs at least one voxel")
    raw, labels = write_phantom(dest, shape, seed)
    _show({"raw": raw.uri, "labels": labels.uri}, as_json, lambda: [raw.uri, labels.uri])


@seg.group()
def volume() -> None:
    """Declare and list volumes."""


@volume.command("add")
@click.argument("file", type=click.Path())
@STORE
def volume_add(file: str, store: str | None) -> None:
    """Declare the volume of a YAML file; its name is the file's."""
    from seg_core.schema import read_file
    from seg_core.volumes.declared import add_volume

    added = add_volume(Store(store), Path(file).stem, read_file(file), file)
    click.echo(f"volume {added.name}: {added.roi.shape} voxels in {len(added.grid)} blocks")


@volume.command("list")
@STORE
@JSON
def volume_list(store: str | None, as_json: bool) -> None:
    """Every declared volume."""
    from seg_core.volumes.declared import volume_names

    names = volume_names(Store(store))
    _show(names, as_json, lambda: names)


@volume.command("show")
@click.argument("name")
@STORE
@JSON
def volume_show(name: str, store: str | None, as_json: bool) -> None:
    """What a volume is: arrays, voxel size, ROI, blocks."""
    from seg_core.volumes.declared import load_volume

    found = load_volume(Store(store), name)
    result = {
        "name": name,
        "raw": found.raw.uri,
        "labels": found.labels.uri if found.labels else None,
        "dtype": found.raw.dtype,
        "voxel_size": list(found.voxel_size),
        "roi": str(found.roi),
        "block": list(found.config.block),
        "blocks": len(found.grid),
    }
    _show(result, as_json, lambda: [f"{k}: {v}" for k, v in result.items()])


@seg.group()
def run() -> None:
    """Add and list runs."""


@run.command("add")
@click.argument("file", type=click.Path())
@STORE
def run_add(file: str, store: str | None) -> None:
    """Add the run of a YAML file; its name is the file's."""
    from seg_core.run import add_run
    from seg_core.schema import read_file

    added = add_run(Store(store), Path(file).stem, read_file(file), file)
    click.echo(
        f"run {added.name}: {added.config.task.kind}, {added.config.trainer.iterations} iterations"
    )


@run.command("list")
@STORE
@JSON
def run_list(store: str | None, as_json: bool) -> None:
    """Every run."""
    from seg_core.run import run_names

    names = run_names(Store(store))
    _show(names, as_json, lambda: names)


@run.command("show")
@click.argument("name")
@STORE
@JSON
def run_show(name: str, store: str | None, as_json: bool) -> None:
    """A run's settings with every default, its checkpoints and its best."""
    import yaml

    from seg_core.checkpoint import iterations
    from seg_core.run import load_run

    found = load_run(Store(store), name)
    result = {
        "config": found.config.model_dump(mode="json", by_alias=True),
        "frozen": found.store.exists(f"{found.folder}/run.json"),
        "checkpoints": iterations(found),
        "best": found.store.read_json(f"{found.folder}/best.json"),
    }
    _show(result, as_json, lambda: [yaml.safe_dump(result, sort_keys=False).rstrip()])


@seg.command()
@click.argument("run")
@STORE
@JSON
def train(run: str, store: str | None, as_json: bool) -> None:
    """Train RUN from where it stands to its end."""
    from seg_core.run import load_run
    from seg_core.train import train as train_run

    found = load_run(Store(store), run)
    made = train_run(found)
    total = found.config.trainer.iterations
    _show(
        {"run": run, "iterations": total, "made": made},
        as_json,
        lambda: [f"run {run}: {made} iterations made, {total - made} passed over"],
    )


@seg.command()
@click.argument("run")
@STORE
@JSON
def validate(run: str, store: str | None, as_json: bool) -> None:
    """Score RUN's last checkpoints over the sweep, and choose the best."""
    from seg_core.run import load_run
    from seg_core.validate import validate as validate_run

    best, made = validate_run(load_run(Store(store), run))
    result = {"run": run, **best.__dict__, "made": made}
    _show(
        result,
        as_json,
        lambda: [
            f"run {run}: best is iteration {best.iteration} with {best.parameters}: "
            f"{best.criterion} {best.score:.4f}",
            *(f"  {name:32} {score:.4f}" for name, score in sorted(best.scores.items())),
        ],
    )


def _of_volume(command: Callable[..., None]) -> Callable[..., None]:
    """Arguments and options of the steps on a volume; opens run and volume."""

    @click.argument("run")
    @click.argument("volume")
    @WORKERS
    @FORCE
    @STORE
    @JSON
    @wraps(command)
    def opened(
        run: str, volume: str, workers: int | None, force: bool, store: str | None, **rest: Any
    ) -> None:
        from seg_core.blockwise import Options
        from seg_core.run import load_run
        from seg_core.volumes.declared import load_volume

        found = load_run(Store(store), run)
        options = Options(workers or found.config.compute.workers, force)
        command(found, load_volume(found.store, volume), options, **rest)

    return opened


@seg.command()
@click.option("--blocks", metavar="KEY,...", help="Only these.")
@click.option("--shard", metavar="I/N", help="Every N-th block from the I-th on, for job arrays.")
@_of_volume
def predict(
    run: Any, volume: Any, options: Any, blocks: str | None, shard: str | None, as_json: bool
) -> None:
    """Predict the blocks of VOLUME with RUN's best checkpoint."""
    from seg_core.segment import predict_volume

    outcome = predict_volume(run, volume, _chosen(volume, blocks, shard), options)
    result = {"made": outcome.made, "passed": outcome.passed}
    _show(result, as_json, lambda: [f"prediction: {_count(outcome)}"])


@seg.command()
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another parameter than the best: threshold, size_penalty, repulsion, min_size.",
)
@click.option("--renumber", is_flag=True, help="Forget all ids, and number from 1 again.")
@_of_volume
def segment(
    run: Any, volume: Any, options: Any, settings: tuple[str, ...], renumber: bool, as_json: bool
) -> None:
    """Make fragments, look-up table and segmentation of VOLUME from its prediction."""
    from seg_core.segment import segment_volume

    parameters = _parameters(settings)
    done = segment_volume(run, volume, options, parameters, renumber=renumber)
    result = {
        "fragments": {"made": done.fragments.made, "passed": done.fragments.passed},
        "lut": {"made": done.table_made, **done.table.figures, **done.table.parameters},
        "segmentation": {"made": done.segmentation.made, "passed": done.segmentation.passed},
    }
    figures = done.table.figures
    _show(
        result,
        as_json,
        lambda: [
            f"fragments: {_count(done.fragments)}",
            f"look-up table: {'made' if done.table_made else 'passed over'}, "
            f"{figures['fragments']:.0f} fragments in {figures['segments']:.0f} segments",
            f"segmentation: {_count(done.segmentation)}",
        ],
    )


def _chosen(volume: Any, blocks: str | None, shard: str | None) -> list[str] | None:
    if blocks:
        return blocks.split(",")
    if not shard:
        return None
    first, _, count = shard.partition("/")
    if not (first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise SegError(f"--shard {shard!r}: expected I/N with I from 0 to N-1")
    return list(volume.grid)[int(first) :: int(count)]


def _parameters(settings: tuple[str, ...]) -> dict[str, float]:
    known, chosen = ("threshold", "size_penalty", "repulsion", "min_size"), {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            chosen[name] = float(value)
        except ValueError:
            raise SegError(f"--set {setting!r}: expected NAME=NUMBER") from None
        if name not in known or chosen[name] < 0:
            raise SegError(f"--set {setting!r}: known are {', '.join(known)}, from 0 up")
    return chosen


def _count(outcome: Any) -> str:
    return f"{len(outcome.made)} blocks made, {len(outcome.passed)} passed over"


@seg.command()
@click.argument("run")
@click.argument("volume")
@STORE
@JSON
def blocks(run: str, volume: str, store: str | None, as_json: bool) -> None:
    """Every block's state in every step, and why."""
    from seg_core.run import load_run
    from seg_core.segment import states_of
    from seg_core.volumes.declared import load_volume

    found = load_run(Store(store), run)
    states = states_of(found, load_volume(found.store, volume))
    result = {
        stage: {
            key: {
                "state": s.state,
                "reason": s.reason,
                "tries": s.record.tries,
                "figures": s.record.figures,
            }
            for key, s in of.items()
        }
        for stage, of in states.items()
    }
    _show(
        result,
        as_json,
        lambda: [
            f"{stage:13} {key}  {s.state:8} {s.reason}".rstrip()
            for stage, of in states.items()
            for key, s in of.items()
        ],
    )


@seg.command()
@click.argument("segmentation")
@click.argument("labels")
@click.option("--roi", metavar="SLICES", help="A part only, in voxels of both.")
@click.option("--classes", metavar="NAME,...", help="Score classes 1, 2, ... and not objects.")
@JSON
def evaluate(
    segmentation: str, labels: str, roi: str | None, classes: str | None, as_json: bool
) -> None:
    """Score SEGMENTATION against LABELS (OME-Zarr, or whatever `seg import` reads)."""
    from seg_core.evaluate.files import evaluate_files

    scores = evaluate_files(segmentation, labels, roi, classes.split(",") if classes else None)
    _show(scores, as_json, lambda: [f"{name:32} {score:.6f}" for name, score in scores.items()])
