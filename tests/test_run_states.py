"""What a run's datasplit, checkpoint and scores are now: contents decide, dates do not."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_run import RUN, VOLUME, make_run, make_volume, opened

from seg_core.blockwise.records import BlockState
from seg_core.cli import seg
from seg_core.errors import NotReady
from seg_core.geometry import Box
from seg_core.run import add_run, load_run
from seg_core.run_states import run_states
from seg_core.segment import states_of
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import add_volume

CHANGED = "labels of volume phantom changed since (train under a new run name)"


def now(store: Store) -> dict[str, BlockState]:
    return run_states(opened(store)[0])


def said(store: Store) -> list[tuple[str, str]]:
    return [(state.state, state.reason) for state in now(store).values()]


def touch(store: Store, name: str) -> None:
    for path in Path(store.path(f"volumes/phantom/{name}.zarr/0")).rglob("*"):
        path.touch()


def mend_labels(store: Store, z: int) -> None:
    labels = opened(store)[1].labels
    assert labels
    chunk = Box.of_shape((8, 8, 8), (z, 0, 0))
    data = labels.read(chunk)
    data[0, 0, 0] += 1
    labels.write(chunk, data)


def test_what_is_done_is_done_and_no_voxel_is_read_to_say_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("seg_core.datasplit.source_content", "seg_core.volumes.contents.region_content"):
        monkeypatch.setattr(module, None)
    assert said(store) == [("done", "")] * 3


def test_what_was_touched_is_read_once_and_done(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(store, "raw")
    touch(store, "labels")
    assert said(store) == [("done", "")] * 3
    test_what_is_done_is_done_and_no_voxel_is_read_to_say_so(store, monkeypatch)


def test_scores_of_data_that_was_touched_are_not_made_again(store: Store) -> None:
    touch(store, "raw")
    touch(store, "labels")
    assert validate(opened(store)[0])[1] == 0
    assert train(opened(store)[0]) == 0


@pytest.mark.parametrize("z", [0, 112])  # of what is trained on, and of what is validated on
def test_other_labels_make_the_run_stale_and_no_block(z: int, store: Store) -> None:
    mend_labels(store, z)
    assert said(store) == [
        ("stale", CHANGED),
        ("stale", f"its datasplit is stale: {CHANGED}"),
        ("stale", f"its checkpoint is stale: its datasplit is stale: {CHANGED}"),
    ]
    blocks = states_of(*opened(store)).values()
    assert {s.state for of in blocks for s in of.values()} == {"done"}


def test_a_mask_changes_the_scores_alone(store: Store) -> None:
    add_volume(store, "phantom", f"{VOLUME}rois: ['0:100, :, :']\n".encode(), "phantom.yaml")
    states = now(store)
    assert [s.state for s in states.values()] == ["done", "done", "stale"]
    assert states["validation_scores"].reason == (
        "data, voxel size, mask or blocks of phantom[60:120, 0:48, 0:48] changed since: "
        "validate again"
    )
    assert validate(opened(store)[0])[1] == 1
    assert said(store) == [("done", "")] * 3


def test_a_run_says_how_far_it_is(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    make_volume(store)
    run = make_run(store)
    assert said(store) == [("missing", "")] * 3
    train(run)
    assert [state for state, _ in said(store)] == ["done", "done", "missing"]
    last = f"{run.folder}/checkpoints/12.safetensors"
    store.write_bytes(f"{run.folder}/checkpoints/6.safetensors", store.read_bytes(last))
    store.remove(last)
    assert said(store)[1:] == [("missing", "at iteration 6 of 12"), ("missing", "")]


def test_what_stands_in_the_way_is_the_reason(store: Store) -> None:
    path = "runs/tiny.yaml"
    store.write_bytes(path, RUN.replace("iterations: 12", "iterations: 13").encode())
    assert now(store)["datasplit"].state == "stale"
    assert "trainer.iterations was 12 and is 13" in now(store)["datasplit"].reason
    store.write_bytes(path, RUN.encode())
    store.remove("volumes/phantom.yaml")
    run = add_run(store, "tiny", RUN.encode(), "tiny.yaml")
    assert "no volume 'phantom'" in run_states(run)["datasplit"].reason


def test_the_command_shows_the_run_first_and_a_summary_last(store: Store) -> None:
    mend_labels(store, 0)
    middle = Box.of_shape((8, 8, 8), (8, 8, 8))
    raw = opened(store)[1].raw
    raw.write(middle, np.ascontiguousarray(raw.read(middle)[::-1]))
    where = ["blocks", "tiny", "phantom", "--store", store.uri]
    lines = CliRunner().invoke(seg, where).output.splitlines()
    changed = f"raw data of volume phantom, {CHANGED}"
    assert lines[0].split(maxsplit=2) == ["datasplit", "stale", changed]
    assert [line.split()[0] for line in lines[1:3]] == ["checkpoint", "validation_scores"]
    assert lines[-1] == (
        "in all: datasplit 1 stale; checkpoint 1 stale; validation_scores 1 stale; "
        "prediction 19 done, 1 stale; fragments 20 done; lut 1 done; segmentation 20 done; "
        "report 1 missing"
    )
    rows = json.loads(CliRunner().invoke(seg, [*where, "--json"]).output)
    assert len(rows) == 3 + 20 + 20 + 1 + 20 + 1
    assert (rows[0]["step"], rows[0]["state"]) == ("datasplit", "stale")


def test_before_it_is_validated_the_run_itself_is_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    make_volume(store)
    add_run(store, "leaky", RUN.replace("'60:120, :, :'", "'50:120, :, :'").encode(), "leaky.yaml")
    asked = ["blocks", "leaky", "phantom", "--store", store.uri]
    assert [line.split() for line in lines_of(asked)][:3] == [
        ["datasplit", "missing"],
        ["checkpoint", "missing"],
        ["validation_scores", "missing"],
    ]
    with pytest.raises(NotReady, match="no_leak"):
        train(load_run(store, "leaky"))
    first, *_ = lines_of(asked)
    assert first.split()[:3] == ["datasplit", "failed", "no_leak:"]


def lines_of(command: list[str]) -> list[str]:
    result = CliRunner().invoke(seg, command, standalone_mode=False, catch_exceptions=False)
    return result.output.splitlines()
