"""A day in the browser: train, segment a volume, mend what failed, make a block again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster_client import Client
from dagster_dev import DagsterDev, wait_for
from dagster_pages import LONG, Pages, opened
from playwright.sync_api import expect
from tiny_run import files_of, make_run, make_volume, middle_chunk, unreadable

from seg_core.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.browser]

BAD = ["z0001y0000x0001", "z0003y0001x0000", "z0003y0001x0001"]
GOOD = "z0000y0000x0000"
BY_BLOCK = ["prediction", "fragments", "segmentation"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run and a volume that nothing was made of."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_volume(store)
    make_run(store)
    return store


@pytest.fixture(scope="module")
def client(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with DagsterDev(tmp_path_factory.mktemp("dagster"), store.uri) as dagster:
        client = Client(dagster, "phantom")
        wait_for("the sensor to see the run", lambda: client.partitions("prediction"))
        yield client


@pytest.fixture(scope="module")
def pages(client: Client) -> Iterator[Pages]:
    with opened(client.dagster, "blocks") as pages:
        yield pages


@dataclass(frozen=True)
class State:
    """What the store and the UI hold at a time: records by block, and what partitions show."""

    made: dict[str, dict[str, tuple[int, bytes]]]
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def trained(pages: Pages) -> None:
    """The training assets of the run, from the graph of their group."""
    pages.group("training")
    pages.open_dialog()
    pages.choose_run("tiny")
    pages.launch()
    assert pages.follow() == "Success"


@pytest.fixture(scope="module")
def three_failed(pages: Pages, store: Store, client: Client, trained: None) -> State:
    """All blocks of one asset, from its own page, while three cannot be read."""
    pages.asset("phantom/prediction", "partitions")
    pages.open_dialog()
    pages.choose_all_blocks()
    pages.choose_run("tiny")
    with unreadable(store, BAD):
        pages.launch()
        pages.sees("Failed (3)", timeout=LONG)
    return state(store, client)


@pytest.fixture(scope="module")
def mended(pages: Pages, store: Store, client: Client, three_failed: State) -> State:
    """Those that failed, from the same dialog."""
    pages.asset("phantom/prediction", "partitions")
    pages.open_dialog()
    pages.choose_all_blocks()
    pages.choose_run("tiny")
    pages.only_failed_and_missing()
    pages.launch()
    pages.sees("Materialized (20)", timeout=LONG)
    return state(store, client)


@pytest.fixture(scope="module")
def complete(pages: Pages, store: Store, client: Client, mended: State) -> State:
    """The whole volume at once, from the graph of its group: it runs good blocks too."""
    pages.group("phantom")
    pages.open_dialog()
    pages.choose_all_blocks()
    pages.choose_run("tiny")
    pages.launch()
    assert pages.follow() == "Succeeded"
    return state(store, client)


def test_training_is_green(pages: Pages, trained: None) -> None:
    pages.group("training")
    pages.sees("100% filled", 3)
    pages.picture("training")
    for asset in ("datasplit", "checkpoint", "validation_scores"):
        pages.asset(asset, "partitions", "tiny")
        pages.sees("Materialized (1)")
        pages.picture(asset)


def test_failed_blocks_show_why(pages: Pages, store: Store, three_failed: State) -> None:
    pages.group("phantom")
    pages.sees("85% filled (3 failed)")
    pages.picture("three-failed")
    pages.asset("phantom/prediction", "partitions", f"{BAD[0]}|tiny")
    pages.sees("Failed (3)")
    pages.sees("Materialized (17)")
    pages.picture("failed-block")
    pages.page.get_by_role("button", name="View logs").click()
    expect(pages.dialog).to_contain_text(f"{BAD[0]}|tiny: ")
    expect(pages.dialog).to_contain_text(str(middle_chunk(store, BAD[0])))
    pages.picture("reason")


def test_failed_and_missing_makes_exactly_those(three_failed: State, mended: State) -> None:
    assert changed(three_failed, mended, "prediction") == set(BAD)
    assert changed(three_failed, mended, "fragments") == set()
    assert len(mended.shown) == 20


def test_whole_volume_passes_over_what_is_done(
    pages: Pages, mended: State, complete: State
) -> None:
    assert changed(mended, complete, "prediction") == set()
    assert len(changed(mended, complete, "fragments")) == 20
    assert complete.shown == mended.shown
    pages.group("phantom")
    pages.sees("100% filled", 5)
    pages.picture("volume")


def test_block_is_made_again_once(
    pages: Pages, store: Store, client: Client, complete: State
) -> None:
    assert make_one(pages, "ops: {phantom__prediction: {config: {force: true}}}") == "Success"
    forced = state(store, client)
    assert changed(complete, forced, "prediction") == {GOOD}
    assert make_one(pages) == "Success"
    assert changed(forced, state(store, client), "prediction") == set()


def test_volume_added_while_it_runs(pages: Pages, store: Store) -> None:
    pages.group("training")
    make_volume(store, "second")
    pages.reload_definitions()
    pages.group("second")
    pages.sees("0% filled", 5)
    pages.picture("new-volume")


def make_one(pages: Pages, config: str = "") -> str:
    """The prediction of one block; returns how the dagster run ended."""
    pages.asset("phantom/prediction", "partitions", f"{GOOD}|tiny")
    pages.open_dialog()
    if config:
        pages.set_config(config)
    pages.launch()
    return pages.follow()


def state(store: Store, client: Client) -> State:
    files = files_of(store, "tiny")
    made = {
        asset: {k: v for k, v in files.items() if k.startswith(f"blocks/{asset}/")}
        for asset in BY_BLOCK
    }
    return State(made, client.shown("prediction"))


def changed(before: State, now: State, asset: str) -> set[str]:
    """The blocks whose records were written between two times."""
    old, new = before.made[asset], now.made[asset]
    return {Path(name).stem for name in new if new[name] != old.get(name)}
