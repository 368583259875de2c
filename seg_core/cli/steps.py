"""A run on a volume: predict, segment, report."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import uuid4

import click

from seg_core.cli.options import FORCE, JSON, STORE, WORKERS, show
from seg_core.errors import SegError
from seg_core.store import Store


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
        from seg_core.blockwise.engine import Options
        from seg_core.run import load_run
        from seg_core.volumes.declared import load_volume

        found = load_run(Store(store), run)
        token = uuid4().hex if force else ""  # one command, one force
        options = Options(workers or found.config.compute.workers, token)
        command(found, load_volume(found.store, volume), options, **rest)

    return opened


@click.command()
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
    show(result, as_json, lambda: [f"prediction: {_count(outcome)}"])


@click.command()
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another parameter than the best, as in threshold=0.3 or min_size=500; it holds for this "
    "volume from now on.",
)
@click.option("--unset", is_flag=True, help="Take the best parameters again.")
@click.option("--renumber", is_flag=True, help="Forget all ids, and number from 1 again.")
@_of_volume
def segment(
    run: Any,
    volume: Any,
    options: Any,
    settings: tuple[str, ...],
    unset: bool,
    renumber: bool,
    as_json: bool,
) -> None:
    """Make fragments, look-up table and segmentation of VOLUME from its prediction."""
    from seg_core.segment import segment_volume, set_parameters

    parameters = _parameters(settings)
    if unset and parameters:
        raise SegError("--unset takes the best parameters again, --set others: give one of them")
    if unset:
        set_parameters(run, volume, None)
    if parameters:
        set_parameters(run, volume, parameters)
    done = segment_volume(run, volume, options, renumber=renumber)
    result = {
        "fragments": {"made": done.fragments.made, "passed": done.fragments.passed},
        "lut": {"made": done.table_made, **done.table.figures, **done.table.parameters},
        "segmentation": {"made": done.segmentation.made, "passed": done.segmentation.passed},
    }
    figures = done.table.figures
    show(
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
    if blocks is not None:
        keys = blocks.split(",")
        for key in keys:
            volume.grid.index(key)
        return keys
    if shard is None:
        return None
    first, _, count = shard.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise SegError(f"--shard {shard!r}: expected I/N with I from 0 to N-1")
    return list(volume.grid)[int(first) :: int(count)]


def _parameters(settings: tuple[str, ...]) -> dict[str, float]:
    chosen = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            chosen[name] = float(value)
        except ValueError:
            raise SegError(f"--set {setting!r}: expected NAME=NUMBER") from None
    return chosen


def _count(outcome: Any) -> str:
    return f"{len(outcome.made)} blocks made, {len(outcome.passed)} passed over"


@click.command()
@click.argument("run")
@click.argument("volume")
@STORE
@JSON
def report(run: str, volume: str, store: str | None, as_json: bool) -> None:
    """Write the report of RUN on VOLUME, and print its scores and where the files are."""
    from seg_core.report import make_report
    from seg_core.run import load_run
    from seg_core.volumes.declared import load_volume

    found = load_run(Store(store), run)
    content = make_report(found, load_volume(found.store, volume))
    show(content, as_json, lambda: _report_lines(content))


def _report_lines(content: dict[str, Any]) -> list[str]:
    lines = [
        f"run {content['run']} on volume {content['volume']}: "
        f"{content['segments']['count']} segments"
    ]
    for source, scores in content["scores"].items():
        lines += ["", f"scores on {source}", *(f"  {k:32} {v:10.4f}" for k, v in scores.items())]
    lines += [
        "",
        "steps",
        *(
            f"  {step:14} {of['blocks']:4} blocks {of['seconds']:8.1f} s"
            for step, of in content["steps"].items()
        ),
    ]
    return [*lines, "", "files", *(f"  {k:14} {v}" for k, v in content["files"].items())]
