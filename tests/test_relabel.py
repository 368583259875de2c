"""Looking labels up and numbering them, against numpy."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seg_core.errors import SegError
from seg_core.kernels.relabel import Labels, compact, relabel

shapes = st.tuples(*[st.integers(0, 5)] * 3)
dtypes = st.sampled_from([np.uint32, np.uint64])


@given(st.data(), dtypes, shapes)
@settings(max_examples=40, deadline=None)
def test_relabel_is_a_look_up(data: st.DataObject, dtype: type, shape: tuple[int, ...]) -> None:
    labels = data.draw(arrays.arrays(dtype, shape, elements=st.integers(0, 6)))
    table = data.draw(arrays.arrays(np.uint64, 7))
    new = relabel(labels, table)
    assert new.dtype == np.uint64
    np.testing.assert_array_equal(new, table[labels])


def test_relabel_reads_views() -> None:
    labels = np.arange(60, dtype=np.uint64).reshape(3, 4, 5)
    table = np.arange(60, dtype=np.uint64)[::-1].copy()
    view = labels[::2, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(relabel(view, table), table[view])


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_label_beyond_the_table_is_refused(size: int) -> None:
    labels = np.zeros((2, 2, 2), np.uint64)
    labels[1, 1, 1] = size
    with pytest.raises(SegError, match="is not in the table"):
        relabel(labels, np.zeros(size, np.uint64))


def slow_compact(labels: Labels) -> NDArray[np.uint64]:
    numbers = {0: 0}
    flat = [numbers.setdefault(int(label), len(numbers)) for label in labels.flat]
    return np.array(flat, np.uint64).reshape(labels.shape)


@given(st.data(), dtypes, shapes)
@settings(max_examples=40, deadline=None)
def test_compact_numbers_by_first_appearance(
    data: st.DataObject, dtype: type, shape: tuple[int, ...]
) -> None:
    elements = st.one_of(st.integers(0, 4), st.integers(0, int(np.iinfo(dtype).max)))
    labels = data.draw(arrays.arrays(dtype, shape, elements=elements))
    new, count = compact(labels)
    expected = slow_compact(labels)
    assert new.dtype == np.uint64
    np.testing.assert_array_equal(new, expected)
    assert count == expected.max(initial=0)


@pytest.mark.parametrize("step", [1, 2**20, 2**45])
def test_compact_of_many_labels(step: int) -> None:
    shuffled = np.random.default_rng(0).permutation(200_000).astype(np.uint64).reshape(20, 100, 100)
    labels = shuffled * np.uint64(step)
    new, count = compact(labels)
    assert count == 199_999
    np.testing.assert_array_equal(new, slow_compact(labels))
