"""Ids of fragments and names of segments, worked out by hand; their life in a store: test_ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seg_core.merging.names import Range, give_names, give_ranges

HIGH = 2**40


def ids(*values: int) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)


def name(
    clusters: NDArray[np.uint64], before: NDArray[np.uint64] | None, following: int = 100
) -> tuple[list[int], int]:
    """Names of fragments 1 to n."""
    fragments = np.arange(1, len(clusters) + 1, dtype=np.uint64)
    names, after = give_names(clusters, fragments, before, following)
    assert names.dtype == np.uint64
    return [int(n) for n in names], after


def test_the_first_ranges_are_prefix_sums() -> None:
    ranges, following = give_ranges({"a": (3, "A"), "b": (0, "B"), "c": (2, "C")}, {}, 1)
    assert ranges == {"a": Range(0, 3, "A"), "b": Range(3, 0, "B"), "c": Range(3, 2, "C")}
    assert list(ranges) == ["a", "b", "c"]
    assert following == 6


def test_a_changed_block_gets_a_range_after_all_others() -> None:
    before = {"a": Range(0, 3, "A"), "b": Range(3, 4, "B"), "c": Range(7, 2, "C")}
    found = {"a": (3, "A"), "b": (2, "changed"), "c": (2, "C")}
    ranges, following = give_ranges(found, before, 10)
    assert ranges == {"a": before["a"], "b": Range(9, 2, "changed"), "c": before["c"]}
    assert list(ranges) == ["a", "b", "c"]
    assert following == 12
    # and so does one of as many fragments as before, and one that was not there
    found = {"a": (3, "other"), "b": (2, "changed"), "c": (2, "C"), "d": (1, "A")}
    ranges, following = give_ranges(found, ranges, following)
    assert ranges["a"] == Range(11, 3, "other")
    assert ranges["b"] == Range(9, 2, "changed")
    assert ranges["d"] == Range(14, 1, "A")  # equal content elsewhere is no reason
    assert following == 16


def test_a_block_of_which_only_the_edges_changed_keeps_its_ids() -> None:
    voxels, edges = "v" * 32, "e" * 32  # a digest of either, one after the other
    before = {"a": Range(0, 3, voxels + edges), "b": Range(3, 2, "B")}
    found = {"a": (3, voxels + "f" * 32), "b": (2, "B")}
    ranges, following = give_ranges(found, before, 6)
    assert ranges == {"a": Range(0, 3, voxels + "f" * 32), "b": before["b"]}
    assert following == 6
    other = {"a": (3, "w" * 32 + edges)}
    assert give_ranges(other, before, 6) == ({"a": Range(5, 3, "w" * 32 + edges)}, 9)


def test_nothing_changed_nothing_given() -> None:
    before, following = give_ranges({"a": (3, "A"), "b": (1, "B")}, {}, 1)
    assert give_ranges({"a": (3, "A"), "b": (1, "B")}, before, following) == (before, following)


def test_a_block_that_is_gone_leaves_its_ids_unused() -> None:
    before, following = give_ranges({"a": (3, "A"), "b": (1, "B")}, {}, 1)
    ranges, following = give_ranges({"b": (1, "B")}, before, following)
    assert ranges == {"b": Range(3, 1, "B")}
    assert give_ranges({"a": (3, "A")}, ranges, following) == ({"a": Range(4, 3, "A")}, 8)


def test_at_first_a_segment_is_named_after_its_smallest_fragment() -> None:
    #  fragment        1  2  3  4  5  6  7
    clusters = ids(9, 5, 9, 0, 5, 7, 0)
    assert name(clusters, None) == ([1, 2, 1, 0, 2, 6, 0], 100)
    # ids need not be in order
    names, following = give_names(ids(1, 1, 2), ids(30, 10, 20), None, 31)
    assert (names.tolist(), following) == ([10, 10, 20], 31)


def test_a_segment_keeps_its_name_while_it_holds_most_of_its_fragments() -> None:
    # 3 of the 5 fragments of segment 1 stay together: the other two are new segments
    assert name(ids(4, 4, 4, 8, 8), ids(1, 1, 1, 1, 1)) == ([1, 1, 1, 100, 100], 101)
    assert name(ids(4, 4, 4, 8, 9), ids(1, 1, 1, 1, 1)) == ([1, 1, 1, 100, 101], 102)
    # half of them are not most of them
    assert name(ids(4, 4, 8, 8), ids(1, 1, 1, 1)) == ([100, 100, 101, 101], 102)
    assert name(ids(1, 2, 3, 4, 4), ids(7, 7, 7, 7, 7)) == ([100, 101, 102, 103, 103], 104)


def test_new_fragments_do_not_count() -> None:
    # segment 3 grew by four fragments that are new, and is all of what segment 3 was
    assert name(ids(2, 2, 2, 2, 2), ids(3, 0, 0, 0, 0)) == ([3] * 5, 100)
    # new ones alone are a new segment
    assert name(ids(2, 2, 5), ids(0, 0, 3)) == ([100, 100, 3], 101)
    assert name(ids(2, 5), ids(0, 0)) == ([100, 101], 102)


def test_what_is_merged_takes_the_name_that_most_of_it_had() -> None:
    assert name(ids(1, 1, 1), ids(2, 3, 3)) == ([3, 3, 3], 100)
    assert name(ids(1, 1, 1), ids(2, 2, 3)) == ([2, 2, 2], 100)
    # of as many fragments the smaller name
    assert name(ids(1, 1), ids(8, 5)) == ([5, 5], 100)
    # most of segment 5 and less than most of the larger segment 8
    clusters, before = ids(1, 1, 1, 1, 1, 2, 2, 2), ids(5, 5, 8, 8, 8, 8, 8, 8)
    assert name(clusters, before) == ([5] * 5 + [100] * 3, 101)


def test_a_name_is_given_to_one_segment_only() -> None:
    # parts of 1 and 2 are exchanged; each part that is most of one keeps its name
    assert name(ids(1, 1, 2, 2, 2, 1), ids(1, 1, 1, 2, 2, 2)) == ([1, 1, 2, 2, 2, 1], 100)


def test_dropped_fragments_are_0_whatever_they_were() -> None:
    assert name(ids(0, 0, 6), ids(1, 1, 1)) == ([0, 0, 1], 100)
    assert name(ids(0, 0), ids(1, 2)) == ([0, 0], 100)
    assert name(ids(0, 0), None) == ([0, 0], 100)
    # one that comes back is new: it was in no segment
    assert name(ids(3, 6), ids(0, 1)) == ([100, 1], 101)


def test_no_fragment_has_no_name() -> None:
    assert name(ids(), None) == ([], 100)
    assert name(ids(), ids()) == ([], 100)


def test_numbers_beyond_32_bits_are_exact() -> None:
    ranges, following = give_ranges(
        {"a": (2, "A"), "b": (3, "B")}, {"a": Range(HIGH - 1, 2, "A")}, HIGH + 2
    )
    assert ranges["b"] == Range(HIGH + 1, 3, "B")
    assert following == HIGH + 5
    fragments = np.arange(HIGH, HIGH + 5, dtype=np.uint64)
    clusters = fragments // np.uint64(2)  # by twos, numbers beyond 32 bits too
    names, after = give_names(clusters, fragments, None, following)
    assert names.tolist() == [HIGH, HIGH, HIGH + 2, HIGH + 2, HIGH + 4]
    assert after == following
    names, after = give_names(ids(1, 2, 2, 2, 0), fragments, names, following)
    # of the two former segments in cluster 2 one is there wholly, the other only half
    assert names.tolist() == [HIGH + 5, *[HIGH + 2] * 3, 0]
    assert after == HIGH + 6


def test_numbers_that_no_float_holds_stay_apart() -> None:
    odd = 2**60 + 1
    names, following = give_names(
        ids(odd, odd + 1), ids(odd, odd + 1), ids(odd + 2, odd + 3), odd + 4
    )
    assert names.tolist() == [odd + 2, odd + 3]
    names, following = give_names(ids(1, 2, 2), ids(1, 2, 3), ids(odd, odd, 0), odd + 4)
    assert names.tolist() == [odd + 4, odd + 5, odd + 5]
    assert following == odd + 6


fragment = st.tuples(st.integers(0, 4), st.integers(0, 4))  # cluster, name before


@given(fragments=st.lists(fragment, max_size=12), high=st.sampled_from([0, HIGH]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_names_follow_the_rule(fragments: list[tuple[int, int]], high: int) -> None:
    clusters = ids(*(cluster for cluster, _ in fragments))
    before = ids(*(high + old if old else 0 for _, old in fragments))
    found, following = give_names(
        clusters, np.arange(1, len(clusters) + 1, dtype=np.uint64), before, high + 10
    )
    names = dict(zip(clusters.tolist(), found.tolist(), strict=True))
    assert [names[c] for c in clusters.tolist()] == found.tolist()  # one name for a segment
    given_names = [n for c, n in names.items() if c]
    assert len(set(given_names)) == len(given_names)
    assert all(n == 0 for c, n in names.items() if not c)
    fresh = sorted(n for n in given_names if n >= high + 10)
    assert fresh == list(range(high + 10, following))
    kept = clusters > 0
    for cluster, own in names.items():
        if not cluster:
            continue
        inside = before[kept & (clusters == cluster)]
        votes = {int(old): int((inside == old).sum()) for old in inside if old}
        heirs = {old: n for old, n in votes.items() if 2 * n > int((before[kept] == old).sum())}
        expected = min(heirs, key=lambda old: (-heirs[old], old)) if heirs else None
        assert own == expected if expected else own >= high + 10


@pytest.mark.parametrize("before", [None, ids(3, 3, 3)])
def test_the_numbers_of_clusters_do_not_matter(before: NDArray[np.uint64] | None) -> None:
    assert name(ids(1, 1, 2), before) == name(ids(9, 9, 4), before)
