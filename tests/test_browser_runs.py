"""A new run from the launchpad, without touching a file."""

import re
from collections.abc import Iterator

import pytest
from dagster_dev import DagsterDev
from dagster_pages import Pages, opened
from playwright.sync_api import expect
from tiny_run import make_run, make_volume

from seg_core.run import load_run, run_names
from seg_core.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.browser]

NEW = "ops: {add: {config: {name: second, like: tiny, trainer: {iterations: 8}}}}"
WRONG = {
    "{name: other, like: tiny, trainer: {iterations: 0}}": (
        "run other: trainer.iterations: input should be greater than 0 (given: 0)"
    ),
    "{name: My Run, like: tiny}": "My Run",
    "{name: other, like: tiny, datasplit: {train: [{volume: nowhere}]}}": "no volume 'nowhere'",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run to start from, and its volume."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    make_run(store)
    return store


@pytest.fixture(scope="module")
def pages(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with (
        DagsterDev(tmp_path_factory.mktemp("dagster"), store.uri) as dagster,
        opened(dagster, "runs") as pages,
    ):
        yield pages


def test_fields_have_types_and_help(pages: Pages) -> None:
    pages.launchpad("new_run", begins="ops")
    pages.page.get_by_text("iterations", exact=True).first.click()
    pages.sees(
        "/* Iterations between checkpoints; the last iteration is always one. Default: 500 */"
    )
    pages.picture("help")
    pages.write(NEW.replace("8", "many"))
    pages.sees(re.compile('Value "many" .* is not valid for expected type "Int"'))
    expect(pages.page.get_by_role("button", name="Launch Run")).to_be_disabled()
    pages.picture("wrong-type")


def test_a_run_is_made(pages: Pages, store: Store) -> None:
    pages.launchpad("new_run", begins="ops")
    pages.write(NEW)
    assert pages.launch_job() == "Success"
    assert load_run(store, "second").config.trainer.iterations == 8
    pages.asset("datasplit", "partitions", "second")
    pages.picture("partition")


@pytest.mark.parametrize(("given", "why"), WRONG.items(), ids=["range", "name", "file"])
def test_what_types_cannot_check_is_refused(
    pages: Pages, store: Store, given: str, why: str
) -> None:
    before = run_names(store)
    pages.launchpad("new_run", begins="ops")
    pages.write(f"ops: {{add: {{config: {given}}}}}")
    assert pages.launch_job() == "Failure"
    expect(pages.page.get_by_text(why).first).to_be_visible()
    assert run_names(store) == before
