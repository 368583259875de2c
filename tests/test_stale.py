"""What was made from data that has changed since is named, and made again: that and no more."""

from pathlib import Path

import numpy as np
import pytest
from tiny_run import BLOCK, VOLUME, files_of, opened

from seg_core.blockwise.engine import Options
from seg_core.blockwise.stage import block_states
from seg_core.errors import BlocksFailed, NotReady
from seg_core.geometry import Box
from seg_core.predict import Predict
from seg_core.segment import (
    fragment_volume,
    lut_of_volume,
    output_of,
    predict_volume,
    segment_blocks,
    segment_volume,
    states_of,
)
from seg_core.states import stages_of
from seg_core.store import Store
from seg_core.validation.scoring import scored_from, validation_sources
from seg_core.volumes.declared import Volume, add_volume, load_volume
from seg_core.volumes.ome_zarr import open_array
from seg_core.volumes.stamps import chunk_stamps

FIRST, LAST = "z0000y0000x0000", "z0004y0001x0001"


def touch_raw(store: Store) -> None:
    for path in Path(store.path("volumes/phantom/raw.zarr/0")).rglob("*"):
        path.touch()


def mend(volume: Volume, voxel: list[int]) -> None:
    """Another value in one voxel."""
    chunk = Box.of_shape((8, 8, 8), [v // 8 * 8 for v in voxel])
    data = volume.raw.read(chunk)
    data[tuple(v % 8 for v in voxel)] ^= 1
    volume.raw.write(chunk, data)


def stale_predictions(store: Store) -> set[str]:
    states = states_of(*opened(store))["prediction"]
    return {key for key, state in states.items() if state.state != "done"}


def test_what_was_touched_only_is_passed_over_and_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    contents = Predict.contents
    monkeypatch.setattr(
        Predict, "contents", lambda stage, key: read.append(key) or contents(stage, key)
    )
    run, volume = opened(store)
    before = files_of(store, "tiny")
    assert predict_volume(run, volume, None, Options()).made == []
    assert read == []  # what was not touched costs no look
    touch_raw(store)
    assert predict_volume(run, volume, None, Options()).made == []
    assert sorted(read) == list(volume.grid)
    done = segment_volume(run, volume, Options())
    assert (done.fragments.made, done.table_made, done.segmentation.made) == ([], False, [])
    assert stale_predictions(store) == set()
    assert len(read) == 20
    now = files_of(store, "tiny")
    assert {n for n in now if now[n] != before[n]} == {
        f"blocks/prediction/{key}.json" for key in volume.grid
    }


@pytest.mark.parametrize(
    ("depth", "readers"),
    [
        ((5, 5, 5), ["z0001y0001x0001"]),  # chunks that others read too, but no voxel of theirs
        ((2, 12, 12), ["z0000y0001x0001", "z0001y0001x0001"]),
        ((12, 2, 2), [f"z0001y000{y}x000{x}" for y in (0, 1) for x in (0, 1)]),
    ],
)
def test_a_mended_voxel_makes_those_stale_that_read_it(
    store: Store, depth: tuple[int, int, int], readers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, volume = opened(store)
    touch_raw(store)  # both at once: touched, and one of them mended
    mend(volume, [BLOCK + d for d in depth])
    assert stale_predictions(store) == set(readers)
    # what was found is noted: nothing is read again to say so again
    with monkeypatch.context() as patch:
        patch.setattr(Predict, "contents", None)
        assert stale_predictions(store) == set(readers)
    assert predict_volume(run, volume, None, Options()).made == readers
    assert stale_predictions(store) == set()


def test_a_voxel_that_is_mended_back_leaves_nothing_to_do(store: Store) -> None:
    _, volume = opened(store)
    for _ in range(2):
        assert stale_predictions(store) == set()
        mend(volume, [BLOCK + BLOCK // 2] * 3)
        assert stale_predictions(store) == {"z0001y0001x0001"}
        mend(volume, [BLOCK + BLOCK // 2] * 3)


def test_another_voxel_size_is_that_of_all_that_it_decides_and_of_every_array(store: Store) -> None:
    run, volume = opened(store)
    source = validation_sources(run)[0]
    scored = scored_from(run, 12, source)
    add_volume(store, "phantom", f"{VOLUME}voxel_size: [30, 10, 10]\n".encode(), "phantom.yaml")

    run, volume = opened(store)
    states = states_of(run, volume)
    assert stale_predictions(store) == set()
    reasons = {state.reason for state in states["fragments"].values()}
    assert reasons == {"changed since: voxel size"}
    assert scored_from(run, 12, validation_sources(run)[0]) != scored
    names, output = ("prediction", "fragments", "segmentation"), output_of(run, volume)
    chunks = {n: f for n, f in files_of(store, "tiny").items() if n.startswith("prediction.zarr/0")}

    assert segment_volume(run, volume, Options()).fragments.made == list(volume.grid)
    for name in names:
        array = open_array(store.path(output.path(f"{name}.zarr")))
        assert array.voxel_size == (30, 10, 10)
    now = files_of(store, "tiny")
    assert {n: now[n] for n in chunks} == chunks
    segment_volume(run, volume, Options())
    assert files_of(store, "tiny") == now


def test_one_block_asks_for_nothing_of_those_it_has_nothing_to_do_with(store: Store) -> None:
    run, volume = opened(store)
    for stage in stages_of(run, volume):
        every = stage.inputs()
        assert all(stage.inputs([key]) == {key: every[key]} for key in volume.grid)
        assert block_states(stage, [FIRST])[FIRST] == block_states(stage)[FIRST]
    chunks = chunk_stamps(volume.raw)
    box = Box((BLOCK + 3, 0, 0), (2 * BLOCK + 5, 8, 8))
    near = chunk_stamps(volume.raw, [box])
    assert near == {index: stamp for index, stamp in chunks.items() if 3 <= index[0] <= 6}

    for step in ("prediction", "fragments", "segmentation"):
        store.write_bytes(f"runs/tiny/phantom/blocks/{step}/{LAST}.json", b"no record")
    for make in (predict_volume, fragment_volume, segment_blocks):
        assert make(run, volume, [FIRST], Options()).passed == [FIRST]


def test_raw_data_that_cannot_be_read_is_stale(store: Store) -> None:
    run, volume = opened(store)
    path = Path(store.path("volumes/phantom/raw.zarr/0/c/4/1/1"))
    path.write_bytes(b"garbage")
    assert stale_predictions(store) == {"z0001y0000x0000"}
    with pytest.raises(BlocksFailed, match="cannot be read"):
        predict_volume(run, volume, None, Options())


def test_no_table_over_predictions_that_are_stale(store: Store) -> None:
    run, volume = opened(store)
    key = "z0002y0001x0000"
    middle = volume.grid.box(key).grow([-BLOCK // 3] * 3)  # no other block's halo reaches it
    mended = volume.raw.read(middle)[::-1]
    volume.raw.write(middle, np.ascontiguousarray(mended))

    changed = load_volume(store, volume.name)
    with pytest.raises(NotReady, match=r"1 prediction block\(s\)") as refused:
        lut_of_volume(run, changed)
    assert f"{key} (changed since: raw data)" in str(refused.value)
    assert "seg predict tiny phantom" in str(refused.value)
    stale = [k for k, s in states_of(run, changed)["prediction"].items() if s.state == "stale"]
    assert stale == [key]

    assert predict_volume(run, changed, None, Options()).made == [key]
    done = segment_volume(run, changed, Options())
    assert done.fragments.made == [key]
    assert done.table_made
