"""Every query reads every key of its context exactly once, whatever is shared or split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.kernels.attention_tasks import Work, attention_work
from gpu_worker.sharing import find_sharing

PAGE = 16


@st.composite
def passes(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[int]]:
    """Page tables of decode rows that may share prefixes, their kv_lens, and the lengths of chunks."""
    trunk = draw(st.integers(0, 120))
    rows = draw(st.integers(0, 12))
    tables = np.zeros((rows, 260), np.int32)
    kv_lens: list[int] = []
    page = 1000
    for row in range(rows):
        shared = draw(st.sampled_from([0, trunk, trunk // 2]))
        own = draw(st.integers(1, 130))
        tables[row, :shared] = np.arange(1, shared + 1)
        tables[row, shared : shared + own] = np.arange(page, page + own)
        page += own
        kv_lens.append((shared + own) * PAGE - draw(st.integers(0, PAGE - 1)))
    chunks = draw(st.lists(st.integers(1, 70), max_size=3, min_size=0 if rows else 1))
    return tables, kv_lens, chunks


def keys_of(work: Work, tokens: int) -> list[list[tuple[int, int, int]]]:
    """Of each token: (first key, end, part) of the tasks that work for it."""
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(tokens)]
    for first, count, _, begin, end, part in [*work.single.tolist(), *work.several.tolist()]:
        for n in range(count):
            found[work.queries[first + n]].append((begin, end, part + n if part >= 0 else -1))
    return found


@settings(max_examples=200)
@given(passes(), st.sampled_from([1, 3, 8]), st.integers(1, 8))
def test_every_key_is_read_once(case: tuple[np.ndarray, list[int], list[int]], block: int, threads: int) -> None:
    tables, decode_lens, chunks = case
    lengths = [1] * len(decode_lens) + chunks
    kv_lens = np.array(decode_lens + [length + 40 for length in chunks], np.int32)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    sharing = find_sharing(tables, kv_lens[: len(decode_lens)], PAGE)
    work = attention_work(starts, kv_lens, len(decode_lens), sharing, PAGE, block, 3, threads)
    assert (work.single[:, 1] == 1).all()
    assert (work.several[:, 1] <= block).all()
    parts: list[int] = []
    for token, tasks in enumerate(keys_of(work, int(starts[-1]))):
        row = int(np.searchsorted(starts, token, side="right")) - 1
        wanted = int(kv_lens[row] - (starts[row + 1] - 1 - token))  # a later query of a task may see more: masked
        ends = sorted((begin, end) for begin, end, _ in tasks)
        assert ends[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(ends))
        assert wanted <= ends[-1][1] <= wanted + (block - 1 if row >= len(decode_lens) else 0)
        mine = sorted(part for _, _, part in tasks if part >= 0)
        listed = work.part_list[work.part_starts[token] : work.part_starts[token + 1]].tolist()
        assert mine == sorted(listed)
        assert (len(tasks) == 1) == (not mine)
        parts += mine
    assert sorted(parts) == list(range(work.num_parts))


def test_a_shared_stretch_is_read_once_for_a_block_of_rows() -> None:
    """32 rows that share 512 pages: 4 blocks of 8 queries walk them, not 32."""
    tables = np.zeros((32, 513), np.int32)
    tables[:, :512] = np.arange(1, 513)
    tables[:, 512] = np.arange(1000, 1032)
    kv_lens = np.full(32, 512 * PAGE + 3, np.int32)
    starts = np.arange(33, dtype=np.int32)
    work = attention_work(starts, kv_lens, 32, find_sharing(tables, kv_lens, PAGE), PAGE, 8, 3, 2)
    walked = int((work.several[:, 4] - work.several[:, 3]).sum())
    assert walked == 4 * 512 * PAGE
    assert int((work.single[:, 4] - work.single[:, 3]).sum()) == 32 * 3
