"""Which rows share which pages."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.sharing import Sharing, find_sharing, nothing_shared

PAGE = 4


def tables(*rows: list[int]) -> np.ndarray:
    width = max(len(row) for row in rows)
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int32)


def as_sets(sharing: Sharing) -> set[tuple[int, int, frozenset[int]]]:
    return {
        (int(b), int(e), frozenset(sharing.members[sharing.offsets[s] : sharing.offsets[s + 1]].tolist()))
        for s, (b, e) in enumerate(zip(sharing.begins, sharing.ends, strict=True))
    }


def test_rows_under_one_node_and_a_branch_below_it() -> None:
    found = find_sharing(
        tables([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6], [7, 8]), np.array([16, 14, 12, 8], np.int32), PAGE, PAGE
    )
    assert as_sets(found) == {(0, 2, frozenset({0, 1, 2})), (2, 3, frozenset({0, 1}))}
    assert found.own.tolist() == [3, 3, 2, 0]


def test_the_page_of_the_last_token_is_never_shared() -> None:
    """Two rows that hold the same pages (they cannot write there, but nothing depends on it)."""
    found = find_sharing(tables([1, 2], [1, 2]), np.array([8, 8], np.int32), PAGE, PAGE)
    assert as_sets(found) == {(0, 1, frozenset({0, 1}))}


def test_short_runs_are_left_alone() -> None:
    found = find_sharing(tables([1, 2, 3], [1, 4, 5]), np.array([12, 12], np.int32), PAGE, 2 * PAGE)
    assert found.num_segments == 0
    assert found.own.tolist() == [0, 0]
    assert nothing_shared(3).own.tolist() == [0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=8), st.data())
def test_every_token_is_read_exactly_once_by_each_row(paths: list[list[int]], data: st.DataObject) -> None:
    """Pages as a tree gives them: equal prefixes have equal pages, nothing else has."""
    numbers: dict[tuple[int, ...], int] = {}
    rows = [[numbers.setdefault(tuple(path[:n]), len(numbers)) for n in range(1, len(path) + 1)] for path in paths]
    kv_lens = np.array(
        [data.draw(st.integers((len(row) - 1) * PAGE + 1, len(row) * PAGE)) for row in rows], dtype=np.int32
    )
    found = find_sharing(tables(*rows), kv_lens, PAGE, PAGE)
    for r in range(len(rows)):
        mine = sorted((begin, end) for begin, end, members in as_sets(found) if r in members)
        at = 0
        for begin, end in mine:
            assert begin == at
            assert end > begin
            at = end
        assert at == found.own[r]
        assert at * PAGE < kv_lens[r]
    for begin, end, members in as_sets(found):
        assert len(members) >= 2
        assert len({tuple(rows[r][begin:end]) for r in members}) == 1
