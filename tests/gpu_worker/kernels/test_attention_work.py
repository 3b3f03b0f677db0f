"""Work of attention: every query meets every key it sees exactly once, whatever is shared, split or bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.kernels.attention_plan import capacity, sizes_of
from gpu_worker.kernels.attention_work import Limits, Rows, Work, make_work
from gpu_worker.kernels.tiling import Launch, Tiling
from gpu_worker.sharing import find_sharing, nothing_shared

settings.register_profile("work", deadline=None, derandomize=True, database=None, max_examples=150)
checked = settings(settings.get_profile("work"))


def tiling(group: int, programs: int = 6, keys: int = 8) -> Tiling:
    launch = Launch(16, keys, 4, 2)
    return Tiling(launch, launch, 4, group, programs, min_split=16, min_shared_split=24)


@st.composite
def batches(draw: st.DrawFn, longest: int = 40) -> Rows:
    """Decode rows on a random tree of pages, then others of up to ``longest`` new tokens."""
    page_size = draw(st.sampled_from([1, 3, 4]))
    paths = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=20), max_size=9))
    paths = [path if n % 3 else [0] * 8 + path for n, path in enumerate(paths)]
    numbers: dict[tuple[int, ...], int] = {}
    tables = [[numbers.setdefault(tuple(path[:n]), len(numbers)) for n in range(1, len(path) + 1)] for path in paths]
    kv_lens = [draw(st.integers((len(path) - 1) * page_size + 1, len(path) * page_size)) for path in paths]
    padded = np.zeros((len(paths), max([len(path) for path in paths], default=0)), np.int32)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = table
    sharing = find_sharing(padded, np.array(kv_lens, np.int32), page_size, page_size)
    new = [1] * len(paths)
    more = st.lists(st.tuples(st.integers(1, longest), st.integers(0, 60)), min_size=0 if paths else 1, max_size=4)
    for count, cached in draw(more):
        new.append(count)
        kv_lens.append(count + cached)
    starts = np.cumsum([0, *new], dtype=np.int32)
    return Rows(starts, np.array(kv_lens, np.int32), sharing, page_size)


def row_of(rows: Rows, token: int) -> int:
    return int(np.searchsorted(rows.starts, token, side="right")) - 1


def position_of(rows: Rows, token: int) -> int:
    row = row_of(rows, token)
    return int(rows.kv_lens[row]) - int(rows.starts[row + 1]) + token


def keys_met(rows: Rows, work: Work, window: int | None) -> list[list[int]]:
    """Of each flat token: the positions it attends to, as often as it does."""
    met: list[list[int]] = [[] for _ in range(int(rows.starts[-1]))]

    def attend(token: int, begin: int, end: int) -> None:
        last = position_of(rows, token)
        first = 0 if window is None else last + 1 - window
        met[token] += [at for at in range(begin, end) if first <= at <= last]

    for _, first, count, _ in work.tiles.tolist():
        for token in range(first, first + count):
            attend(token, 0, int(rows.kv_lens.max()))
    for first, count, _, begin, end, _ in work.items.tolist():
        assert begin < end
        for token in work.members[first : first + count].tolist():
            attend(token, begin, end)
    return met


def check(rows: Rows, work: Work, window: int | None, group: int) -> None:
    for token, met in enumerate(keys_met(rows, work, window)):
        last = position_of(rows, token)
        assert sorted(met) == list(range(0 if window is None else max(0, last + 1 - window), last + 1))
    for row, first, count, position in work.tiles.tolist():
        assert row == row_of(rows, first) == row_of(rows, first + count - 1)
        assert position == position_of(rows, first)
        assert 0 < count * group <= 16
    results: dict[int, list[int]] = {}
    stored: list[int] = []
    for first, count, row, begin, end, partial in work.items.tolist():
        tokens = work.members[first : first + count].tolist()
        assert 0 < count * group <= 16
        mates = {row_of(rows, token) for token in tokens} | {row}
        shared = [
            set(rows.sharing.members[rows.sharing.offsets[s] : rows.sharing.offsets[s + 1]].tolist())
            for s in range(rows.sharing.num_segments)
            if rows.sharing.begins[s] * rows.page_size <= begin and end <= rows.sharing.ends[s] * rows.page_size
        ]
        assert len(mates) == 1 or any(mates <= members for members in shared), "their pages differ"
        for n, token in enumerate(tokens):
            results.setdefault(token, []).append(-1 if partial < 0 else partial + n)
        stored += range(partial, partial + count) if partial >= 0 else []
    assert sorted(stored) == list(range(len(work.partials)))
    merged = {
        int(token): work.partials[work.offsets[n] : work.offsets[n + 1]].tolist() for n, token in enumerate(work.merged)
    }
    for token, places in results.items():
        assert places == [-1] if token not in merged else sorted(merged.pop(token)) == sorted(places)
    assert not merged


@checked
@given(
    rows=batches(),
    window=st.none() | st.integers(1, 100),
    group=st.sampled_from([1, 3, 8, 16]),
    programs=st.sampled_from([1, 6, 50]),
)
def test_every_query_meets_its_keys_once(rows: Rows, window: int | None, group: int, programs: int) -> None:
    check(rows, make_work(rows, tiling(group, programs), window), window, group)


@checked
@given(data=st.data(), spare=st.integers(0, 3), group=st.sampled_from([1, 4, 16]), programs=st.integers(1, 9))
def test_as_many_tokens_as_a_plan_is_made_for_always_fit(
    data: st.DataObject, spare: int, group: int, programs: int
) -> None:
    tiles = tiling(group, programs)
    rows = data.draw(batches(longest=tiles.tile_tokens))
    sizes = capacity(int(rows.starts[-1]) + spare, tiles)
    work = make_work(rows, tiles, None, Limits(sizes.items, sizes.members, sizes.partials))
    check(rows, work, None, group)
    assert all(wanted <= room for wanted, room in zip(sizes_of(work), sizes, strict=True))


@checked
@given(rows=batches(longest=4), members=st.integers(0, 30))
def test_sharing_is_given_up_from_the_leaves_on(rows: Rows, members: int) -> None:
    count = int(rows.starts[-1])
    work = make_work(rows, tiling(1), None, Limits(1000, count + members, 1000))
    assert len(work.members) <= count + members
    check(rows, work, None, 1)


def test_a_segment_is_read_once_by_all_rows_and_split_as_rows_are() -> None:
    tables = np.array([[1, 2, 3, 4, 10 + n] for n in range(6)], np.int32)
    kv_lens = np.full(6, 4 * 16 + 5, np.int32)
    rows = Rows(np.arange(7, dtype=np.int32), kv_lens, find_sharing(tables, kv_lens, 16, 16), 16)
    work = make_work(rows, tiling(2), None)
    shared = work.items[work.items[:, 1] > 1]
    assert shared[:, 1].tolist() == [6, 6, 6]
    assert shared[:, 3:5].tolist() == [[0, 24], [24, 48], [48, 64]]
    own = work.items[work.items[:, 1] == 1]
    assert own[:, 3:5].tolist() == [[64, 69]] * 6
    assert np.diff(work.offsets).tolist() == [4] * 6


def test_one_long_row_fills_the_gpu_and_short_ones_are_left_whole() -> None:
    rows = Rows(np.arange(3, dtype=np.int32), np.array([960, 9], np.int32), nothing_shared(2), 4)
    work = make_work(rows, tiling(1, programs=10), None)
    assert (work.items[:, 2] == 0).sum() == 10
    assert work.items[work.items[:, 2] == 1][:, 3:].tolist() == [[0, 9, -1]]
    assert work.merged.tolist() == [0]


def test_a_short_message_after_a_long_conversation_is_split_over_the_gpu() -> None:
    wide = tiling(1, programs=80)._replace(own_rows=4)
    rows = Rows(np.array([0, 40], np.int32), np.array([1000], np.int32), nothing_shared(0), 4)
    work = make_work(rows, wide, None)
    assert len(work.tiles) == 0
    assert len(work.items) > 60
    check(rows, work, None, 1)
    assert len(make_work(rows, tiling(1, programs=16), None).tiles) == 3, "enough tiles to keep this one busy"


def test_too_many_rows_are_refused() -> None:
    rows = Rows(np.arange(10, dtype=np.int32), np.full(9, 5, np.int32), nothing_shared(9), 4)
    with pytest.raises(ValueError, match="9 spans"):
        make_work(rows, tiling(1), None, Limits(8, 100, 100))
