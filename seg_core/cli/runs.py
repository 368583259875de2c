"""Runs: add, list, show, train, validate."""

from pathlib import Path

import click

from seg_core.cli.options import JSON, STORE, show
from seg_core.store import Store


@click.group()
def run() -> None:
    """Add, list and remove runs."""


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
    """Every run; which is promoted, and which are archived."""
    from seg_core.lifecycle.promoted import promoted
    from seg_core.run import ARCHIVED, run_names

    opened = Store(store)
    names, first = run_names(opened), promoted(opened)

    def line(name: str) -> str:
        archived = opened.exists(f"runs/{name}/{ARCHIVED}")
        marks = ["promoted"] * (name == first) + ["archived"] * archived
        return f"{name} ({', '.join(marks)})" if marks else name

    show(names, as_json, lambda: [line(name) for name in names])


@run.command("show")
@click.argument("name")
@STORE
@JSON
def runshow(name: str, store: str | None, as_json: bool) -> None:
    """A run's settings with every default, its checkpoints and its best."""
    import yaml

    from seg_core.run import load_run
    from seg_core.training.checkpoint import iterations

    found = load_run(Store(store), name)
    result = {
        "config": found.config.model_dump(mode="json", by_alias=True),
        "frozen": found.is_frozen,
        "archived": found.is_archived,
        "checkpoints": iterations(found),
        "best": found.store.read_json(f"{found.folder}/best.json"),
    }
    show(result, as_json, lambda: [yaml.safe_dump(result, sort_keys=False).rstrip()])


@click.command()
@click.argument("run")
@STORE
@JSON
def train(run: str, store: str | None, as_json: bool) -> None:
    """Train RUN from where it stands to its end."""
    from seg_core.run import load_run
    from seg_core.validate import train_and_score

    found = load_run(Store(store), run)
    made = train_and_score(found)
    total = found.config.trainer.iterations
    show(
        {"run": run, "iterations": total, "made": made},
        as_json,
        lambda: [f"run {run}: {made} iterations made, {total - made} passed over"],
    )


@click.command()
@click.argument("run")
@STORE
@JSON
def validate(run: str, store: str | None, as_json: bool) -> None:
    """Score RUN's last checkpoints over the sweep, and choose the best."""
    from seg_core.run import load_run
    from seg_core.validate import validate as validate_run

    best, made = validate_run(load_run(Store(store), run))
    result = {"run": run, **best.__dict__, "made": made}
    show(
        result,
        as_json,
        lambda: [
            f"run {run}: best is iteration {best.iteration} with {best.parameters}: "
            f"{best.criterion} {best.score:.4f}",
            *(f"  {name:32} {score:.4f}" for name, score in sorted(best.scores.items())),
        ],
    )
