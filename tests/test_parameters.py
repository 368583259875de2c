"""Another threshold for one volume: kept, shown, used from now on, and nothing is trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_run import files_of, opened

from seg_core.blockwise.engine import Options
from seg_core.cli import seg
from seg_core.errors import SegError
from seg_core.lut import read_table
from seg_core.segment import (
    chosen_parameters,
    lut_of_volume,
    lut_state_of,
    output_of,
    own_parameters,
    segment_volume,
    set_parameters,
    states_of,
    unfinished,
)
from seg_core.store import Store
from seg_core.validation.best import read_best


def call(store: Store, *command: str) -> Any:
    where = ["tiny", "phantom", "--store", store.uri, "--json"]
    result = CliRunner().invoke(seg, [command[0], *where, *command[1:]])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_is_set_holds_until_it_is_unset(store: Store) -> None:
    run, volume = opened(store)
    best = read_best(run).parameters
    before = files_of(store, "tiny")
    set_parameters(run, volume, {"min_size": 1e6})
    assert lut_state_of(run, volume).state == "stale"
    assert store.read_json("runs/tiny/phantom/parameters.json") == {"min_size": 1e6}
    table, made = lut_of_volume(run, volume)
    assert (table.parameters, made) == (best | {"min_size": 1e6}, True)
    stale = [k for k, s in states_of(run, volume)["segmentation"].items() if s.state == "stale"]
    done = segment_volume(run, volume, Options())  # whoever comes later takes them too
    assert (done.fragments.made, done.table_made) == ([], False)
    assert done.segmentation.made == stale != []
    now = files_of(store, "tiny")
    kept = ("prediction", "fragments", "blocks/prediction", "blocks/fragments", "edges")
    assert {n for n in now if n.startswith(kept)} == {n for n in before if n.startswith(kept)}
    assert not [n for n in now if n.startswith(kept) and now[n] != before[n]]

    set_parameters(run, volume, None)
    assert not store.exists("runs/tiny/phantom/parameters.json")
    segment_volume(run, volume, Options())
    table_now = read_table(output_of(run, volume))
    assert table_now
    assert table_now.parameters == best


def test_only_what_differs_from_the_best_is_kept(store: Store) -> None:
    run, volume = opened(store)
    best = read_best(run).parameters
    set_parameters(run, volume, best)
    assert own_parameters(run, volume) == {}
    set_parameters(run, volume, {"repulsion": 2})
    set_parameters(run, volume, {"min_size": 7, "threshold": best["threshold"]})
    assert own_parameters(run, volume) == {"min_size": 7.0, "repulsion": 2.0}
    assert chosen_parameters(run, volume) == best | {"min_size": 7.0, "repulsion": 2.0}
    set_parameters(run, volume, {"min_size": best["min_size"]})
    assert own_parameters(run, volume) == {"repulsion": 2.0}
    assert unfinished(run, volume).whole == ["lut", "report"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"treshold": 0.3}, "no parameter 'treshold'; it has threshold, size_penalty"),
        ({"threshold": 1.5}, "threshold=1.5 of run tiny: it should be less than or equal to 1"),
        ({"min_size": -1}, "min_size=-1 of run tiny: it should be greater than or equal to 0"),
        ({"min_size": np.inf}, "min_size=inf of run tiny: a number is expected"),
        ({"threshold": np.nan}, "threshold=nan of run tiny: a number is expected"),
        ({"repulsion": 1.0, "threshold": [0.1, 0.2]}, "a number is expected"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    settings: dict[str, Any], words: str, finished: Path
) -> None:
    store = Store(str(finished))
    before = files_of(store, "tiny")
    with pytest.raises(SegError) as refused:
        set_parameters(*opened(store), settings)
    assert words in str(refused.value)
    assert files_of(store, "tiny") == before


def test_the_command_sets_shows_and_unsets(store: Store) -> None:
    best = read_best(opened(store)[0]).parameters
    first = call(store, "segment", "--set", "drop_size=1000000")
    assert first["lut"]["drop_size"] == 1e6
    assert first["lut"]["segments"] == 0
    assert call(store, "segment")["lut"] | {"made": True} == first["lut"]
    (row,) = (row for row in call(store, "blocks") if row["step"] == "lut")
    assert (row["state"], row["reason"]) == ("done", "set for this volume: drop_size=1e+06")
    last = call(store, "segment", "--unset")
    assert {name: last["lut"][name] for name in best} == best
    assert last["segmentation"]["made"]
