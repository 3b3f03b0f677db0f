"""Causal attention over the paged KV pool, compiled for the CPU.

A task is a few queries, all those query heads that share a KV head, and a stretch of context: the queries' rows of
accumulators stay in registers while keys and values stream by once. The softmax is online
over tiles of keys (Milakov and Gimelshein 2018; FlashAttention, arXiv 2205.14135).

Keys of a page lie dimension-major, so the scores of LANES keys are multiply-adds of whole vectors.
Measured on two Zen 4 cores, bfloat16, 8 rows of 1,500 tokens, 3 KV heads of 64, 30 layers: 43 ms on one
core without the prefetches, 27 with them, 17 on both.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.attention_merge_cpu import PART_EXTRA
from gpu_worker.kernels.attention_simd import add_weighted_pairs, score_pairs
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import (
    COUNTER,
    FIELDS,
    FRAME,
    NUM_SEVERAL,
    NUM_SINGLE,
    PAGE_SIZE,
    PARTS,
    POSITIONS,
    QUERIES,
    SEVERAL,
    SINGLE,
    TABLE_WIDTH,
    TABLES,
    TOKENS,
)
from gpu_worker.kernels.math_cpu import LOG2_E, exp2
from gpu_worker.kernels.simd import (
    BFLOAT16,
    FLOAT32,
    add_weighted,
    claim,
    narrow,
    pointer,
    prefetch,
    score_lanes,
    stack,
    widen,
)
from gpu_worker.kernels.vector_width import ACCUMULATORS, BFLOAT16_DOTS, LANES

(QKV, OUT, KEYS, VALUES, WINDOW) = range(2, 7)
ARGUMENTS = 7
TILE = 256  # keys per pass of the online softmax
_FIELDS = 6  # of a task, see attention_tasks.py
_MASKED = np.float32(-1e30)  # finite, because infinities are not allowed for in fast-math code
_SEEN = np.float32(-1e29)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)


def queries_per_task(group: int) -> int:
    """Successive tokens of a chunk that one task computes, so that the scores fill the registers."""
    return max(1, ACCUMULATORS // group)


def attention_body(kv_heads: int, group: int, dim: int, element: type, is_single: bool) -> Body:
    """Tasks of one query, or of several, as in attention_tasks.py; each is done for every KV head.

    QKV is float32 [T, heads + 2 * kv_heads, dim], OUT float32 [T, heads, dim]; WINDOW is 0 where there is none.
    """
    tasks_field, count_field = (SINGLE, NUM_SINGLE) if is_single else (SEVERAL, NUM_SEVERAL)
    block = 1 if is_single else queries_per_task(group)
    part_width = dim + PART_EXTRA
    heads = kv_heads * group
    kind = FLOAT32 if element is np.float32 else BFLOAT16
    size = 4 if element is np.float32 else 2
    rows = group * block
    q_bytes, score_bytes, key_bytes, address_bytes = rows * dim * 4, rows * TILE * 4, dim * LANES * 4, TILE * 8 + 8
    row_bytes = rows * 4
    line_bytes = LANES * dim * size
    scale = np.float32(dim**-0.5 * LOG2_E)
    in_pairs = BFLOAT16_DOTS and kind == BFLOAT16 and dim % LANES == 0
    pair_bytes, weight_bytes = (rows * dim * 2, rows * TILE * 2) if in_pairs else (4, 4)
    half = np.uint16(0)

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        frame = carray(pointer(a[FRAME]), (FIELDS,), np.int64)
        tokens, page_size, window = frame[TOKENS], frame[PAGE_SIZE], a[WINDOW]
        tasks_in_all = frame[count_field]
        keys_at, values_at = a[KEYS], a[VALUES]
        tasks = carray(pointer(frame[tasks_field]), (tasks_in_all, _FIELDS), np.int32)
        queries = carray(pointer(frame[QUERIES]), (tokens,), np.int32)
        positions = carray(pointer(frame[POSITIONS]), (tokens,), np.int64)
        tables = carray(pointer(frame[TABLES]), (tokens, frame[TABLE_WIDTH]), np.int32)
        parts = carray(pointer(frame[PARTS]), (tokens, heads, part_width), np.float32)
        qkv = carray(pointer(a[QKV]), (tokens, kv_heads * (group + 2), dim), np.float32)
        out = carray(pointer(a[OUT]), (tokens, heads, dim), np.float32)
        q_at, score_at, sum_at, lane_at, address_at = (
            stack(q_bytes), stack(score_bytes), stack(q_bytes), stack(key_bytes), stack(address_bytes),
        )  # fmt: skip
        q = carray(pointer(q_at), (dim, rows), np.float32)
        scores = carray(pointer(score_at), (rows, TILE), np.float32)
        sums = carray(pointer(sum_at), (rows, dim), np.float32)
        lanes = carray(pointer(lane_at), (dim, LANES), np.float32)
        addresses = carray(pointer(address_at), (TILE + 1,), np.int64)
        highest = carray(pointer(stack(row_bytes)), (rows,), np.float32)
        weights = carray(pointer(stack(row_bytes)), (rows,), np.float32)
        q_pairs_at, weight_at = stack(pair_bytes), stack(weight_bytes)
        q_pairs = carray(pointer(q_pairs_at), (dim // 2, rows, 2), np.uint16)
        narrowed = carray(pointer(weight_at), (rows, TILE), np.uint16)
        whole_lanes = page_size % LANES == 0
        page_bytes = page_size * dim * size

        while True:
            task = claim(a[COUNTER])
            if task >= tasks_in_all * kv_heads:
                break
            # all tasks of one KV head in succession: its keys and values stay in the cache
            head = task // tasks_in_all
            task -= head * tasks_in_all
            first, count = np.int64(tasks[task, 0]), np.int64(tasks[task, 1])
            table = tables[tasks[task, 2]]
            tile, end, part = np.int64(tasks[task, 3]), np.int64(tasks[task, 4]), np.int64(tasks[task, 5])
            for t in range(block):
                for g in range(group):
                    row = t * group + g
                    if t < count:
                        for i in range(dim):
                            q[i, row] = qkv[queries[first + t], head * group + g, i] * scale
                    else:
                        for i in range(dim):
                            q[i, row] = _ZERO
                    if in_pairs:
                        for i in range(dim):
                            q_pairs[i // 2, row, i % 2] = narrow(q[i, row], half)
                    highest[row] = _MASKED
                    weights[row] = _ZERO
                    for i in range(dim):
                        sums[row, i] = _ZERO

            if window > 0:
                tile = max(tile, (positions[queries[first]] + 1 - window) // LANES * LANES)
            while tile < end:
                length = min(TILE, end - tile)

                # scores, LANES keys at a time
                index = tile // page_size
                offset = tile - index * page_size
                for lane in range(0, length, LANES):
                    if whole_lanes:
                        base = (np.int64(table[index]) * kv_heads + head) * page_bytes
                        prefetch(values_at + base + offset * dim * size, line_bytes)
                        lane_keys = keys_at + base + offset * size
                        if in_pairs:
                            score_pairs(q_pairs_at, lane_keys, page_size, score_at + lane * 4, TILE, rows, dim)
                        else:
                            score_lanes(q_at, lane_keys, page_size, score_at + lane * 4, TILE, rows, dim, kind)
                        offset += LANES
                        if offset == page_size:
                            offset = np.int64(0)
                            index += 1
                            if tile + lane + LANES < end:
                                base = (np.int64(table[index]) * kv_heads + head) * page_bytes
                                prefetch(keys_at + base, line_bytes)
                    else:
                        for n in range(LANES):
                            if lane + n < length:
                                base = (np.int64(table[index]) * kv_heads + head) * page_bytes
                                column = carray(pointer(keys_at + base), (dim, page_size), element)
                                for i in range(dim):
                                    lanes[i, n] = widen(column[i, offset])
                                offset += 1
                                if offset == page_size:
                                    offset = np.int64(0)
                                    index += 1
                            else:
                                for i in range(dim):
                                    lanes[i, n] = _ZERO
                        score_lanes(q_at, lane_at, LANES, score_at + lane * 4, TILE, rows, dim, FLOAT32)

                # where the values are
                t = np.int64(0)
                index = tile // page_size
                offset = tile - index * page_size
                while t < length:
                    base = values_at + (np.int64(table[index]) * kv_heads + head) * page_bytes
                    following = min(length, t + page_size - offset)
                    for n in range(t, following):
                        addresses[n] = base + (offset + n - t) * (dim * size)
                    t = following
                    offset = np.int64(0)
                    index += 1

                # online softmax, in powers of two
                padded = (length + LANES - 1) // LANES * LANES
                for row in range(rows):
                    position = positions[queries[first + min(np.int64(row // group), count - 1)]]
                    for n in range(max(np.int64(0), min(length, position + 1 - tile)), padded):
                        scores[row, n] = _MASKED
                    if window > 0:
                        for n in range(min(padded, position + 1 - window - tile)):
                            scores[row, n] = _MASKED
                    top = highest[row]
                    for n in range(padded):
                        top = max(top, scores[row, n])
                    for n in range(padded):
                        scores[row, n] = exp2(scores[row, n] - top) if scores[row, n] > _SEEN else _ZERO
                    for n in range(padded, TILE):
                        scores[row, n] = _ZERO
                    total = _ZERO
                    for n in range(TILE):  # always as many, so that the order of the sum is always the same
                        total += scores[row, n]
                    if in_pairs:
                        for n in range(padded):
                            narrowed[row, n] = narrow(scores[row, n], half)
                    fade = exp2(highest[row] - top)
                    highest[row] = top
                    weights[row] = weights[row] * fade + total
                    for i in range(dim):
                        sums[row, i] *= fade

                if in_pairs:
                    addresses[length] = addresses[length - 1]  # its weight is zero
                    add_weighted_pairs(weight_at, address_at, (length + 1) // 2, sum_at, TILE, rows, dim)
                else:
                    add_weighted(score_at, address_at, length, sum_at, TILE, rows, dim, kind)
                tile += TILE

            for t in range(count):
                for g in range(group):
                    row = t * group + g
                    if part >= 0:
                        for i in range(dim):
                            parts[part + t, head * group + g, i] = sums[row, i]
                        parts[part + t, head * group + g, dim] = weights[row]
                        parts[part + t, head * group + g, dim + 1] = highest[row]
                    else:
                        share = _ONE / weights[row]
                        for i in range(dim):
                            out[queries[first + t], head * group + g, i] = sums[row, i] * share

    return body
