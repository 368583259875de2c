"""Ids over a volume's history: dense at first, kept where nothing changed, never used twice."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import (
    assert_same_partition,
    chunks_of,
    give_prediction,
    ideal_affinities,
    ideal_segments,
    output_for,
    random_labels,
    read,
)

from seg_core.blockwise.engine import Options, Outcome
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Record, Records
from seg_core.blockwise.stage import block_states
from seg_core.errors import NotReady
from seg_core.fragments import Fragments, make_fragments
from seg_core.lut import Table, make_lut, read_slice
from seg_core.postprocess.watershed import Watershed
from seg_core.segmentation import Segmentation, make_segmentation
from seg_core.tasks.affinities import Affinities

SHAPE, BLOCK = (4, 12, 12), (4, 4, 4)
TASK = Affinities(
    postprocess=Watershed(weak_voxels="own"), offsets=[(1, 0, 0), (0, 1, 0), (0, 0, 1)]
)
PARAMETERS = {"threshold": 0.5, "size_penalty": 0.0, "repulsion": 0.0, "min_size": 0.0}


def truth(seed: int = 0) -> NDArray[np.int64]:
    """Objects of a few voxels to a few blocks."""
    return random_labels(np.random.default_rng(seed), SHAPE, range(1, 7), (4, 3, 3))


def altered(output: Output, labels: NDArray[np.int64], key: str, seed: int) -> NDArray[np.int64]:
    """Other labels inside a block; what lies at its faces stays, so its neighbours stay ideal."""
    inner = output.grid.box(key).grow([-1] * 3).slices
    labels = labels.copy()
    labels[inner] = np.random.default_rng(seed).integers(7, 12, labels[inner].shape)
    return labels


@dataclass
class Step:
    """What one round of all steps left."""

    fragments: Outcome
    table: Table
    stale: set[str]
    segmentation: Outcome
    voxels: NDArray[np.uint64]
    names: dict[str, NDArray[np.uint64]]


@dataclass
class History:
    """A store in which predictions change."""

    folder: Path
    labels: NDArray[np.int64] = field(default_factory=truth)
    task: Affinities = TASK

    def __post_init__(self) -> None:
        self.output = output_for(self.folder, SHAPE, block=BLOCK, chunk=BLOCK)
        self.predict(list(self.output.grid))

    def predict(self, keys: list[str]) -> None:
        give_prediction(self.output, ideal_affinities(self.labels, TASK.offsets), keys)

    def alter(self, key: str, seed: int) -> None:
        self.labels = altered(self.output, self.labels, key, seed)
        self.predict([key])

    def step(self, **parameters: float) -> Step:
        fragments = make_fragments(self.task, self.output, 8, None, Options())
        table, _ = make_lut(self.task, self.output, PARAMETERS | parameters)
        states = block_states(Segmentation(self.output, self.task))
        stale = {key for key, state in states.items() if state.state != "done"}
        made = make_segmentation(self.task, self.output, None, Options())
        names = {key: read_slice(self.output, key, table.slices[key]) for key in table.slices}
        return Step(fragments, table, stale, made, read(self.output, "segmentation"), names)

    def fragments_of(self, key: str) -> NDArray[np.uint32]:
        return read(self.output, "fragments")[self.output.grid.box(key).slices]


def segments_in(voxels: NDArray[np.uint64], output: Output, key: str) -> set[int]:
    return set(np.unique(voxels[output.grid.box(key).slices]).tolist())


def test_the_first_ids_are_dense_and_segments_are_named_after_their_smallest_fragment(
    tmp_path: Path,
) -> None:
    history = History(tmp_path)
    first = history.step()
    following = 1
    smallest: dict[int, int] = {}
    for key in history.output.grid:  # in C order
        labels, given = history.fragments_of(key), first.table.ranges[key]
        assert np.unique(labels).tolist() == list(range(1, given.count + 1))
        assert given.base + 1 == following
        following += given.count
        for fragment in range(1, given.count + 1):
            name = int(first.names[key][fragment])
            smallest[name] = min(smallest.get(name, following), given.base + fragment)
    assert first.table.following == following
    assert len(smallest) > 9
    assert all(name == fragment for name, fragment in smallest.items())
    assert set(np.unique(first.voxels).tolist()) == set(smallest)
    assert_same_partition(first.voxels, ideal_segments(history.labels))


@pytest.mark.parametrize("number", range(0, 9, 2))
def test_a_changed_block_leaves_alone_what_does_not_touch_it(number: int, tmp_path: Path) -> None:
    history = History(tmp_path)
    key = list(history.output.grid)[number]
    first = history.step()
    files = chunks_of(history.output, "segmentation")
    history.alter(key, 1)
    second = history.step()
    assert second.table.ranges[key].count != first.table.ranges[key].count
    assert_same_partition(second.voxels, ideal_segments(history.labels))
    assert second.fragments.made == [key]
    near = segments_in(first.voxels, history.output, key)
    near_now = segments_in(second.voxels, history.output, key)
    far = set(np.unique(first.voxels).tolist()) - near
    assert far == set(np.unique(second.voxels).tolist()) - near_now
    assert len(far) > 5
    for segment in far:
        np.testing.assert_array_equal(first.voxels == segment, second.voxels == segment)
    changed = {k for k in first.table.slices if first.table.slices[k] != second.table.slices[k]}
    assert key in changed
    assert second.stale == changed
    assert second.segmentation.made == [k for k in history.output.grid if k in changed]
    # and every chunk else holds the bytes that it held
    for k in set(history.output.grid) - changed:
        index = history.output.grid.index(k)
        name = f"0/c/{index[0]}/{index[1]}/{index[2]}"
        assert chunks_of(history.output, "segmentation")[name] == files[name]


changes = st.lists(
    st.one_of(
        # one or two blocks change, perhaps back to what they were
        st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=2),
        # all blocks change
        st.just("all"),
        # other parameters, which may drop all segments
        st.sampled_from([{"threshold": 1.0}, {"drop_size": 20.0}, {"drop_size": 1e6}, {}]),
    ),
    min_size=2,
    max_size=6,
)


@given(changes=changes)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_no_id_is_used_twice(changes: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        history = History(Path(folder))
        keys = list(history.output.grid)
        step = history.step()
        used, retired = set(np.unique(step.voxels).tolist()), set[int]()
        owners = {id_: (key, r.content) for key, r in step.table.ranges.items() for id_ in ids(r)}
        parameters: dict[str, float] = {}
        for number, change in enumerate(changes):
            if isinstance(change, dict):
                parameters = change
            elif change == "all":
                history.labels = truth(1 + number)
                history.predict(keys)
            else:
                for block, seed in change:
                    history.alter(keys[block], seed)
            before, step = step, history.step(**parameters)
            now = set(np.unique(step.voxels).tolist()) - {0}
            had = set(np.unique(before.voxels).tolist()) - {0}
            assert not now & retired
            # what is new is after all that was, fragments and segments
            assert all(name >= before.table.following for name in now - had)
            assert all(name < step.table.following for name in now)
            for key, given in step.table.ranges.items():
                for id_ in ids(given):
                    assert owners.setdefault(id_, (key, given.content)) == (key, given.content)
            used |= now
            retired |= used - now


def ids(given: Any) -> range:
    return range(given.base + 1, given.base + given.count + 1)


@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_the_same_history_gives_the_same_bytes(seed: int) -> None:
    found = []
    for _ in range(2):
        with TemporaryDirectory() as folder:
            history = History(Path(folder))
            random = np.random.default_rng(seed)
            history.step()
            for _ in range(2):
                history.alter(str(random.choice(list(history.output.grid))), seed)
                step = history.step()
            table = {k: v for k, v in step.table.__dict__.items() if k != "figures"}
            lut = Path(history.output.store.path(history.output.path("lut")))
            slices = {path.name: path.read_bytes() for path in lut.glob("*.npy")}
            arrays = [chunks_of(history.output, n) for n in ("fragments", "segmentation")]
            found.append((table, slices, arrays))
    assert len(found[0][1]) == 9
    assert found[0] == found[1]


def test_the_table_waits_for_all_fragments_and_names_those_that_are_not_there(
    tmp_path: Path,
) -> None:
    history = History(tmp_path)
    keys = list(history.output.grid)
    make_fragments(TASK, history.output, 8, keys[1:], Options())
    with pytest.raises(NotReady, match=f"{keys[0]} \\(missing\\)") as refused:
        make_lut(TASK, history.output, PARAMETERS)
    assert not any(key in str(refused.value) for key in keys[1:])
    make_fragments(TASK, history.output, 8, None, Options())
    make_lut(TASK, history.output, PARAMETERS)
    records = Fragments(history.output, TASK, 8).records
    records.write(keys[3], Record("failed", error="too little memory"))
    records.write(keys[5], Record("missing"))
    history.alter(keys[7], 1)
    predictions = Records(history.output.store, history.output.path("blocks/prediction"))
    predictions.write(keys[8], Record("missing"))
    with pytest.raises(NotReady) as refused:
        make_lut(TASK, history.output, PARAMETERS)
    said = str(refused.value)
    assert f"{keys[3]} (failed: too little memory)" in said
    assert f"{keys[5]} (missing)" in said
    assert f"{keys[7]} (stale: changed since: prediction)" in said
    assert f"{keys[8]} (stale: its prediction is missing)" in said
    assert not any(keys[n] in said for n in (0, 1, 2, 4, 6))


def test_another_threshold_makes_no_fragments_and_only_the_blocks_that_change(
    tmp_path: Path,
) -> None:
    history = History(tmp_path, labels=np.ones(SHAPE, np.int64))
    keys = list(history.output.grid)
    # one object, to which the block in the middle hangs by less
    values = ideal_affinities(history.labels, TASK.offsets)
    values[2, :, 4:8, [3, 7]] = values[1, :, [3, 7], 4:8] = 160
    give_prediction(history.output, values)
    first = history.step()
    assert len(np.unique(first.voxels)) == 1
    second = history.step(threshold=0.7)
    assert second.fragments == Outcome([], keys)
    changed = [k for k in keys if first.table.slices[k] != second.table.slices[k]]
    assert changed == ["z0000y0001x0001"]
    assert second.stale == set(changed)
    assert second.segmentation.made == changed
    assert len(np.unique(second.voxels)) == 2
    # the same as other settings of the run
    other = Watershed.model_validate(
        {"weak_voxels": "own", "agglomeration": {"threshold": 0.7, "min_size": 3}}
    )
    history.task = TASK.model_copy(update={"postprocess": other})
    assert history.step(threshold=0.7).fragments == Outcome([], keys)


def test_other_affinities_of_the_same_fragments_change_no_id(tmp_path: Path) -> None:
    history = History(tmp_path)
    first, key = history.step(), list(history.output.grid)[4]
    files = chunks_of(history.output, "segmentation")
    weaker = ideal_affinities(history.labels, TASK.offsets) // 255 * 240
    give_prediction(history.output, weaker, [key])
    second = history.step()
    assert second.fragments.made == [key]
    assert second.table.ranges[key].content != first.table.ranges[key].content
    assert second.table.slices == first.table.slices
    assert second.table.following == first.table.following
    assert second.segmentation.made == []
    assert chunks_of(history.output, "segmentation") == files
