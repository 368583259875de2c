"""Checks of a prediction and of a segmentation: on a run that is whole, and after each damage."""

import io
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from stores import ideal_affinities
from tiny_project import copy_of

from seg_core.blockwise.engine import Options
from seg_core.blockwise.records import BlockState, Record
from seg_core.checks import prediction as prediction_checks
from seg_core.checks import segmentation as segmentation_checks
from seg_core.checks.ids import overlapping, torn_segments
from seg_core.checks.prediction import (
    check_prediction,
    coverage,
    not_saturated,
    prediction_finite,
    together,
    value_figures,
)
from seg_core.checks.seams import agreement, inside, no_seams
from seg_core.checks.segmentation import check_segmentation, none_lost
from seg_core.cli import seg
from seg_core.errors import BlocksFailed, NotReady
from seg_core.fingerprint import content, fingerprint
from seg_core.lut import read_slice, read_table
from seg_core.merging.names import Range
from seg_core.parameters import set_parameters
from seg_core.run import Run, load_run
from seg_core.segment import predict_volume, segment_blocks, segment_volume
from seg_core.states import output_of, stages_of
from seg_core.store import Store
from seg_core.training.checkpoint import checkpoint_path, load_tensors, save_tensors
from seg_core.verdicts import Verdict, read_verdicts
from seg_core.volumes.declared import Volume, load_volume

FIRST, LAST = "z0000y0000x0000", "z0004y0001x0001"
DONE, FAILED = (BlockState(s, "", Record(s)) for s in ("done", "failed"))


@pytest.fixture(scope="module")
def project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run on its volume, predicted and segmented."""
    folder = tmp_path_factory.mktemp("segmented")
    run, volume = opened(copy_of(project, folder))
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())
    return folder


@pytest.fixture(scope="module")
def ideal(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, its prediction being what the labels say."""
    store = copy_of(project, tmp_path_factory.mktemp("ideal"))
    run, volume = opened(store)
    stage = stages_of(run, volume)[0]
    assert volume.labels is not None
    affinities = ideal_affinities(volume.labels.read(), run.frozen.task.neighbours)
    for key in volume.grid:
        pieces = stage.sub_blocks(volume.grid.box(key))
        for piece in pieces:
            stage.array.write(piece, affinities[(slice(None), *piece.slices)])
        digest = fingerprint([content(stage.array.read(piece)) for piece in pieces])
        stage.records.write(key, replace(stage.records.read(key), content=digest))
    segment_volume(run, volume, Options())
    return Path(store.uri)


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Store:
    return copy_of(project, tmp_path)


def opened(store: Store) -> tuple[Run, Volume]:
    return load_run(store, "tiny"), load_volume(store, "phantom")


def checked(check: Callable[[Run, Volume], list[Verdict]], store: Store) -> dict[str, Verdict]:
    """Verdicts by name; they are in the store too."""
    found = {verdict.check: verdict for verdict in check(*opened(store))}
    kept = read_verdicts(store, "runs/tiny/phantom")
    assert {name: kept[name].sentence for name in found} == {
        name: verdict.sentence for name, verdict in found.items()
    }
    return found


def chunk_of(store: Store, array: str, *index: int) -> Path:
    return Path(store.path(f"runs/tiny/phantom/{array}.zarr/0/c/{'/'.join(map(str, index))}"))


# Prediction


def test_a_whole_prediction_passes(store: Store) -> None:
    found = checked(check_prediction, store)
    assert list(found) == ["prediction_finite", "not_saturated", "coverage"]
    assert all(verdict.passed for verdict in found.values())
    assert found["coverage"].figures["done"] == 20
    assert len({verdict.made_from for verdict in found.values()}) == 1


def test_figures_of_values_by_hand() -> None:
    values = np.array([[[[0, 255, 7]]], [[[0, 1, 255]]]], np.uint8)
    found = value_figures(values, masked=False)
    assert (found["not_finite"], found["saturated"], found["values"]) == (0, 4, 6)
    assert found["range"] == [[0, 255], [0, 255]]
    # the first voxel is 0 in all channels: outside the mask
    found = value_figures(values, masked=True)
    assert (found["saturated"], found["values"]) == (2, 4)
    reals = np.array([[[[0.001, 0.999, np.nan, np.inf]]]], np.float32)
    found = value_figures(reals, masked=False)
    assert (found["not_finite"], found["saturated"]) == (2, 3)
    parts = [value_figures(np.full((2, 1, 1, 1), v, np.uint8), False) for v in (3, 3)]
    assert together(parts)["constant"] == [0, 1]
    parts.append(value_figures(np.array([3, 4], np.uint8).reshape(2, 1, 1, 1), False))
    assert together(parts)["constant"] == [0]


def test_values_that_are_no_numbers() -> None:
    good: dict[str, Any] = {"not_finite": 0}
    assert prediction_finite({"a": good}, {"a": DONE}).passed
    bad = prediction_finite({"a": good, "b": {"not_finite": 3}}, {"a": DONE, "b": DONE})
    assert bad.blocks
    assert bad.figures["not_finite"] == {"b": 3}
    assert bad.sentence.startswith("b: the network gives values that are no finite numbers")


def test_a_network_that_gives_no_numbers_fails_its_blocks(store: Store) -> None:
    """uint8 would hold them as zeros, and nobody would know."""
    run, _ = opened(store)
    path = checkpoint_path(run, 12)
    weights, provenance = load_tensors(run, path)
    save_tensors(run, path, {k: v * float("nan") for k, v in weights.items()}, provenance)
    with pytest.raises(BlocksFailed, match="the network's output is not finite"):
        predict_volume(*opened(store), [FIRST], Options())
    verdict = checked(check_prediction, store)["prediction_finite"]
    assert verdict.blocks
    assert verdict.figures["failed"] == [FIRST]


def test_blocks_that_say_nothing() -> None:
    usual = {"constant": [], "saturated": 10, "values": 100}
    full = {"constant": [], "saturated": 100, "values": 100}
    flat = {"constant": [1], "saturated": 0, "values": 100}
    assert not_saturated({"a": usual}).passed
    assert not_saturated({"a": usual}).figures["highest_share"] == 0.1
    for name, figures, words in (
        ("b", full, "b: over 99.9 % of the values are 0 or 1"),
        ("c", flat, "c: a channel has one value only"),
    ):
        verdict = not_saturated({"a": usual, name: figures})
        assert (verdict.passed, verdict.severity) == (False, "warning")
        assert words in verdict.sentence


def test_a_constant_block_is_told_unless_its_image_is_constant(store: Store) -> None:
    run, volume = opened(store)
    array = stages_of(run, volume)[0].array
    box = volume.grid.box(FIRST)
    array.write(box, np.full((array.channels or 1, *box.shape), 9, np.uint8))
    found = checked(check_prediction, store)
    assert list(found["not_saturated"].figures["constant_channels"]) == [FIRST]
    # it is not what was written when the block was made, either
    assert found["coverage"].figures["not_as_written"] == [FIRST]
    volume.raw.write(box, np.full(box.shape, 7, np.uint8))
    blocks = predict_volume(*opened(store), [FIRST], Options()).made
    assert blocks == [FIRST]
    assert checked(check_prediction, store)["not_saturated"].passed


@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_a_chunk_that_is_lost_or_damaged(store: Store, damage: str) -> None:
    assert checked(check_prediction, store)["coverage"].passed
    file = chunk_of(store, "prediction", 0, 9, 3, 3)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"garbage")
    verdict = checked(check_prediction, store)["coverage"]
    assert verdict.blocks
    assert verdict.figures["not_as_written"] == [LAST]
    assert "chunks are lost or damaged" in verdict.sentence


def test_blocks_that_are_missing_or_failed(store: Store) -> None:
    stages_of(*opened(store))[0].records.write(FIRST, Record("missing"))
    verdict = checked(check_prediction, store)["coverage"]
    assert verdict.blocks
    assert verdict.figures["not_up_to_date"] == {FIRST: "missing"}
    assert coverage({}, {"a": FAILED}).figures["not_up_to_date"] == {"a": "failed"}
    outside = BlockState("skipped", "outside the mask", Record("skipped"))
    assert coverage({}, {"a": outside}).passed


def test_a_second_check_reads_only_what_was_written_since(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for module in (prediction_checks, segmentation_checks):
        measure = module._block
        monkeypatch.setattr(
            module, "_block", lambda *a, measure=measure: (read.append(a[-1]), measure(*a))[1]
        )
    first = [check_prediction(*opened(store)), check_segmentation(*opened(store))]
    assert len(read) == 40
    assert [check_prediction(*opened(store)), check_segmentation(*opened(store))] == first
    assert len(read) == 40
    chunk_of(store, "prediction", 0, 9, 3, 3).touch()
    chunk_of(store, "segmentation", 0, 0, 0).touch()
    check_prediction(*opened(store))
    check_segmentation(*opened(store))
    assert read[40:] == [LAST, FIRST]


# Segmentation


def test_a_segmentation_of_ideal_affinities_passes(ideal: Path) -> None:
    found = checked(check_segmentation, Store(str(ideal)))
    assert list(found) == ["no_seams", "ids_unique", "none_lost", "up_to_date"]
    assert all(verdict.passed for verdict in found.values()), found
    assert max(found["no_seams"].figures["missing"].values()) < 0.1
    assert found["no_seams"].figures["z"]["faces"] == 16
    assert found["none_lost"].figures["segment_voxels"] == 120 * 48 * 48


def test_a_network_that_has_learnt_little_leaves_seams(store: Store) -> None:
    """Seen in neuroglancer too: its affinities bind nothing across a face."""
    found = checked(check_segmentation, store)
    assert found["no_seams"].blocks
    assert "segments end at faces of blocks" in found["no_seams"].sentence
    assert all(found[name].passed for name in ("ids_unique", "none_lost", "up_to_date"))


def test_agreement_by_hand() -> None:
    a, b = np.array([1, 1, 2, 0, 0, 3]), np.array([1, 2, 2, 0, 4, 0])
    assert agreement(a, b) == [2, 5]
    labels = np.array([[[1, 1], [2, 1]], [[1, 1], [2, 0]]])
    assert inside(labels) == {"z": [3, 4], "y": [1, 4], "x": [2, 4]}


@pytest.mark.parametrize(
    ("across", "passed", "severity"),
    [(90, True, "error"), (81, True, "error"), (80, False, "warning"), (62, False, "error")],
)
def test_seams_by_share_of_what_agrees_inside(across: int, passed: bool, severity: str) -> None:
    block = {axis: [900, 1000] for axis in "zyx"}
    verdict = no_seams([block], {"z": [[across, 100]], "y": [], "x": []})
    assert (verdict.passed, verdict.severity) == (passed, severity)
    assert verdict.figures["missing"] == {"z": pytest.approx(max(0, 1 - across / 90))}
    assert verdict.figures["z"] == {"inside": 0.9, "across_faces": across / 100, "faces": 1}


def test_a_volume_of_one_block_has_no_seams() -> None:
    verdict = no_seams([{axis: [900, 1000] for axis in "zyx"}], {"z": [], "y": [], "x": []})
    assert verdict.passed
    assert "there are no faces" in verdict.sentence


def test_ranges_that_overlap() -> None:
    ranges = {
        "a": Range(0, 5, ""),
        "b": Range(5, 3, ""),
        "c": Range(20, 0, ""),
        "d": Range(8, 1, ""),
    }
    assert overlapping(ranges) == []
    assert overlapping(ranges | {"e": Range(7, 2, "")}) == [("b", "e"), ("e", "d")]


def test_segments_that_do_not_hang_together() -> None:
    names = np.array([1, 1, 1, 4, 4, 0, 7], np.uint64)
    u, v = np.array([1, 2, 3, 4], np.uint64), np.array([2, 3, 4, 5], np.uint64)
    assert torn_segments(names, u, v) == []
    # fragment 3 touches only one of another segment now
    assert torn_segments(names, u[[0, 2, 3]], v[[0, 2, 3]]) == [1]


def change_slice(store: Store, key: str, fragment: int, segment: int) -> None:
    """A table that is wrong, and the segmentation that is made from it."""
    run, volume = opened(store)
    output = output_of(run, volume)
    table = read_table(output)
    assert table is not None
    values = read_slice(output, key, table.slices[key]).copy()
    values[fragment] = segment
    buffer = io.BytesIO()
    np.save(buffer, values)
    table.slices[key] = content(values)
    store.write_bytes(output.path(f"lut/{key}-{table.slices[key]}.npy"), buffer.getvalue())
    store.write_json(output.path("lut/table.json"), asdict(table))
    assert segment_blocks(run, volume, None, Options()).made == [key]


def test_one_name_for_two_things(ideal: Path, tmp_path: Path) -> None:
    store = copy_of(ideal, tmp_path)
    for key in (FIRST, LAST):
        change_slice(store, key, 1, 99_999)
    found = checked(check_segmentation, store)
    assert found["ids_unique"].blocks
    assert found["ids_unique"].figures["torn"][-1] == 99_999
    assert "of several parts that do not touch" in found["ids_unique"].sentence
    assert found["none_lost"].passed


def test_a_fragment_without_a_segment(ideal: Path, tmp_path: Path) -> None:
    store = copy_of(ideal, tmp_path)
    change_slice(store, FIRST, 1, 0)
    verdict = checked(check_segmentation, store)["none_lost"]
    assert verdict.blocks
    assert verdict.figures["unassigned_fragments"] == 1
    assert verdict.figures["bad_blocks"] == [FIRST]
    assert verdict.figures["segment_voxels"] < 120 * 48 * 48


def test_small_segments_may_be_dropped(ideal: Path, tmp_path: Path) -> None:
    store = copy_of(ideal, tmp_path)
    run, volume = opened(store)
    set_parameters(run, volume, {"drop_size": 4000})
    segment_volume(run, volume, Options())
    found = checked(check_segmentation, store)
    assert found["none_lost"].passed
    assert found["none_lost"].figures["segment_voxels"] < 120 * 48 * 48
    assert found["up_to_date"].passed


def test_voxels_that_are_not_what_the_table_says(ideal: Path, tmp_path: Path) -> None:
    store = copy_of(ideal, tmp_path)
    stage = stages_of(*opened(store))[2]
    box = stage.output.grid.box(LAST)
    labels = stage.array.read(box)
    labels[0, 0, :3] += np.uint64(1)
    stage.array.write(box, labels)
    verdict = checked(check_segmentation, store)["none_lost"]
    assert verdict.blocks
    assert (verdict.figures["wrong"], verdict.figures["bad_blocks"]) == (3, [LAST])
    chunk_of(store, "segmentation", 0, 0, 0).unlink()
    verdict = checked(check_segmentation, store)["none_lost"]
    assert verdict.figures["bad_blocks"] == [FIRST, LAST]
    assert verdict.figures["wrong"] == 3 + 12**3
    chunk_of(store, "fragments", 2, 0, 0).write_bytes(b"garbage")
    verdict = checked(check_segmentation, store)["none_lost"]
    assert verdict.figures["bad_blocks"] == [FIRST, "z0001y0000x0000", LAST]


def test_sums_that_differ() -> None:
    good = dict.fromkeys(("wrong", "empty_fragments", "unassigned_fragments"), 0)
    good |= {"fragment_voxels": 7, "segment_voxels": 7}
    assert none_lost({"a": good}).passed
    assert none_lost({"a": good | {"empty_fragments": 1}}).blocks
    assert none_lost({"a": good | {"segment_voxels": 6}}).blocks
    assert none_lost({"a": {"unreadable": "why"}}).blocks


def test_what_is_behind_is_named(ideal: Path, tmp_path: Path) -> None:
    store = copy_of(ideal, tmp_path)
    run, volume = opened(store)
    stages_of(run, volume)[2].records.write(LAST, Record("missing"))
    verdict = checked(check_segmentation, store)["up_to_date"]
    assert verdict.blocks
    assert verdict.figures["behind"] == {LAST: "missing"}
    assert f"1 block(s) are behind it: {LAST}" in verdict.sentence
    set_parameters(run, volume, {"threshold": 0.9})
    verdict = checked(check_segmentation, store)["up_to_date"]
    assert "the look-up table is stale (changed since: fragments or parameters)" in verdict.sentence


def test_without_a_table_there_is_nothing_to_check(store: Store) -> None:
    store.remove("runs/tiny/phantom/lut")
    with pytest.raises(NotReady, match="seg segment tiny phantom"):
        check_segmentation(*opened(store))


def test_the_command_tells_what_a_run_made_of_a_volume(store: Store) -> None:
    asked = CliRunner().invoke(
        seg, ["check", "tiny", "phantom", "--store", store.uri], standalone_mode=False
    )
    assert asked.return_value == 1  # the seams
    states = {line.split()[0]: line.split()[1] for line in asked.output.splitlines()}
    assert len(states) == 7 + 3 + 4
    assert [name for name, state in states.items() if state != "passed"] == ["no_seams"]
