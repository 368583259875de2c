"""What one backfill asks for: near blocks in one dagster run, and never one that was given up."""

from collections.abc import Iterator

import dagster as dg
import pytest
from tiny_run import make_run, make_volume

from seg_assets.backfill import NEAR, _spans, at_work, start_backfill, started_before
from seg_core.run import Run
from seg_core.states import Unfinished
from seg_core.store import Store
from seg_core.volumes.declared import Volume

GRID = [f"b{number:02}" for number in range(40)]


def spans(*numbers: int, never: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    keys = [GRID[n] for n in numbers]
    found = _spans(keys, GRID, {GRID[n] for n in never})
    return [(GRID.index(first), GRID.index(last)) for first, last in found]


def test_near_blocks_are_one_stretch() -> None:
    assert spans(3) == [(3, 3)]
    assert spans(3, 4, 5) == [(3, 5)]
    assert spans(0, NEAR + 1, 2 * NEAR + 3) == [(0, NEAR + 1), (2 * NEAR + 3, 2 * NEAR + 3)]


def test_what_was_given_up_is_in_no_stretch() -> None:
    assert spans(3, 5, 7, never=(6,)) == [(3, 5), (7, 7)]


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Volume]]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    volume = make_volume(store)
    yield make_run(store), volume


def test_a_backfill_is_counted_and_seen_at_work(opened: tuple[Run, Volume]) -> None:
    run, volume = opened
    keys = list(volume.grid)
    due = Unfinished({"prediction": keys[:2], "fragments": [keys[5]], "segmentation": []}, ["lut"])
    other = Unfinished({"prediction": keys[:1], "fragments": [], "segmentation": []}, [])
    with dg.instance_for_test() as instance:
        assert not at_work(instance, "tiny", "phantom")
        start_backfill(instance, run, volume, due, "sensor")
        (backfill,) = instance.get_backfills()
        data = backfill.asset_backfill_data
        assert data is not None
        wanted = {
            key.to_user_string(): set(subset.get_partition_keys())
            for key, subset in data.target_subset.partitions_subsets_by_asset_key.items()
        }
        assert at_work(instance, "tiny", "phantom")
        assert not at_work(instance, "other", "phantom")
        assert not at_work(instance, "tiny", "elsewhere")
        counts = [started_before(instance, "tiny", "phantom", d) for d in (due, other)]
    assert counts == [1, 0]
    assert wanted == {
        "phantom/prediction": {f"{key}|tiny" for key in keys[:2]},
        "phantom/fragments": {f"{keys[5]}|tiny"},
        "phantom/lut": {"tiny"},
    }
