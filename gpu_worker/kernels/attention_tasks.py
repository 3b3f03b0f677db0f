"""One pass of attention cut into tasks: decode rows by stretches of context, shared ones once, chunks by queries.

A task is a few queries and a stretch of KV that they read. Where more than one task works for a query, each leaves a
part (a sum, its weight, its largest score), and the parts are merged by their log-sum-exp (FlashDecoding; cascade
inference in FlashInfer, arXiv 2501.01005). Pure numpy: knows nothing of kernels or tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpu_worker.sharing import Sharing

Int32 = NDArray[np.int32]

_SHORTEST = 512  # keys of a task where a row is split: below that the merge costs more than an idle core
_TASKS_PER_THREAD = 6
_FIELDS = 6


class Work(NamedTuple):
    """What attention has to do in one pass, the same in all layers.

    Tasks are int32 [n, 6]: first entry of ``queries``, number of queries, row of the page tables, first key, end of
    keys, first part (or -1: the task does all there is to do for its queries).
    """

    single: Int32  # tasks of one query
    several: Int32  # tasks of up to ``block`` queries
    queries: Int32  # flat tokens
    part_starts: Int32  # [T + 1], into part_list; none for tokens that need no merge
    part_list: Int32  # parts of each token
    num_parts: int


def attention_work(
    starts: Int32,
    kv_lens: Int32,
    num_decodes: int,
    sharing: Sharing,
    page_size: int,
    block: int,
    kv_heads: int,
    threads: int,
) -> Work:
    """Cut a pass into tasks; every one is done for each of ``kv_heads`` heads.

    ``starts`` and ``kv_lens`` as in FlatBatch, ``block`` is the most queries of one task.
    """
    tokens = int(starts[-1])
    own_begins = sharing.own[:num_decodes].astype(np.int64) * page_size
    lengths = kv_lens[:num_decodes].astype(np.int64) - own_begins
    limit = _limit(int(lengths.sum()), kv_heads, threads)
    lone, owners = _decode_tasks(kv_lens[:num_decodes], own_begins, limit)
    shared, listed, members = _shared_tasks(sharing, page_size, block, kv_heads, threads, tokens)
    chunks = _chunk_tasks(starts, kv_lens, num_decodes, block)

    # parts: a row that has one task alone needs none
    pieces = np.bincount(owners, minlength=num_decodes)
    merged = (pieces > 1) | (sharing.own[:num_decodes] > 0)
    is_part = merged[owners]
    lone[:, 5] = np.where(is_part, np.cumsum(is_part) - 1, -1)
    part_tokens = owners[is_part]
    if len(shared):
        counts = shared[:, 1]
        shared[:, 5] = len(part_tokens) + np.cumsum(counts) - counts
        part_tokens = np.concatenate((part_tokens, members))
    part_starts = np.zeros(tokens + 1, np.int32)
    np.cumsum(np.bincount(part_tokens, minlength=tokens), out=part_starts[1:])
    return Work(
        single=lone,
        several=np.concatenate((shared, chunks)),
        queries=np.concatenate((np.arange(tokens, dtype=np.int32), listed)),
        part_starts=part_starts,
        part_list=np.argsort(part_tokens, kind="stable").astype(np.int32),
        num_parts=len(part_tokens),
    )


def work_of_each_alone(starts: Int32, kv_lens: Int32, block: int) -> Work:
    """The same where each token's sums are in the same order whatever else is in the pass, a decode row or a chunk."""
    tokens = int(starts[-1])
    empty = np.zeros(0, np.int32)
    return Work(
        single=np.zeros((0, _FIELDS), np.int32),
        several=np.ascontiguousarray(_chunk_tasks(starts, kv_lens, 0, block)),
        queries=np.arange(tokens, dtype=np.int32),
        part_starts=np.zeros(tokens + 1, np.int32),
        part_list=empty,
        num_parts=0,
    )


def _limit(keys: int, kv_heads: int, threads: int) -> int:
    """Keys after which a task is cut, so that threads end together."""
    return max(_SHORTEST, -(-keys * kv_heads // (threads * _TASKS_PER_THREAD)))


def _cut(begins: NDArray[np.int64], ends: NDArray[np.int64], limit: int) -> tuple[NDArray[np.intp], Int32, Int32]:
    """Stretches of at most about ``limit`` keys, on multiples of 64; which one each is from, begin, end."""
    pieces = np.maximum(1, -(-(ends - begins) // limit))
    which = np.repeat(np.arange(len(begins)), pieces)
    piece = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    step = -(-(ends - begins) // (pieces * 64)) * 64
    low = begins[which] + piece * step[which]
    high = np.minimum(low + step[which], ends[which])
    kept = low < high
    return which[kept], low[kept].astype(np.int32), high[kept].astype(np.int32)


def _decode_tasks(kv_lens: Int32, begins: NDArray[np.int64], limit: int) -> tuple[Int32, NDArray[np.intp]]:
    """Tasks of rows alone, and whose each is. The flat token of a decode row is the row."""
    which, low, high = _cut(begins, kv_lens.astype(np.int64), limit)
    tasks = np.empty((len(which), _FIELDS), np.int32)
    tasks[:, 0] = tasks[:, 2] = which
    tasks[:, 1] = 1
    tasks[:, 3], tasks[:, 4] = low, high
    return tasks, which


def _shared_tasks(
    sharing: Sharing, page_size: int, block: int, kv_heads: int, threads: int, first: int
) -> tuple[Int32, Int32, Int32]:
    """Tasks of segments, their entries of ``queries`` (from entry ``first`` on), and the member of each part."""
    if not sharing.num_segments:
        empty = np.zeros(0, np.int32)
        return np.zeros((0, _FIELDS), np.int32), empty, empty
    sizes = np.diff(sharing.offsets)
    blocks = -(-sizes // block)
    keys = int(((sharing.ends - sharing.begins).astype(np.int64) * page_size * blocks).sum())
    segment = np.repeat(np.arange(len(sizes)), blocks)
    piece = np.arange(len(segment)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    low = piece * sizes[segment] // blocks[segment]
    count = (piece + 1) * sizes[segment] // blocks[segment] - low
    which, begin, end = _cut(
        sharing.begins[segment].astype(np.int64) * page_size,
        sharing.ends[segment].astype(np.int64) * page_size,
        _limit(keys, kv_heads, threads),
    )
    at = sharing.offsets[segment] + low
    tasks = np.empty((len(which), _FIELDS), np.int32)
    tasks[:, 0] = first + at[which]
    tasks[:, 1] = count[which]
    tasks[:, 2] = sharing.members[at[which]]
    tasks[:, 3], tasks[:, 4] = begin, end
    counts = count[which]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return tasks, sharing.members, sharing.members[np.repeat(at[which], counts) + within]


def _chunk_tasks(starts: Int32, kv_lens: Int32, num_decodes: int, block: int) -> Int32:
    """Successive tokens of a row, from its end on: the last see most keys and are best not left for last."""
    lengths = np.diff(starts)[num_decodes:]
    pieces = -(-lengths // block)
    row = np.repeat(np.arange(len(lengths)), pieces) + num_decodes
    piece = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = starts[:-1][row] + piece * block
    count = np.minimum(block, starts[1:][row] - first)
    tasks = np.zeros((len(row), _FIELDS), np.int32)
    tasks[:, 0], tasks[:, 1], tasks[:, 2] = first, count, row
    tasks[:, 4] = kv_lens[row] - (starts[1:][row] - first - count)
    tasks[:, 5] = -1
    return tasks[::-1]
