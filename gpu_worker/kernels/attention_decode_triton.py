"""Attention of rows with few new tokens: items of queries and keys, and the sum of their partial results.

An item's queries are those of one row, or of all rows that share a segment of pages; see attention_work.py.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false, reportUndefinedVariable=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels.attention_block_triton import attend_block


@triton.jit
def attend_item(
    qkv,
    out,
    sums,
    logs,
    positions,
    members,
    table,
    keys,
    values,
    window,
    scale,
    kv_head,
    count,
    begin,
    end,
    partial,
    M: tl.constexpr,  # noqa: N803
    N: tl.constexpr,  # noqa: N803
    GROUP: tl.constexpr,  # noqa: N803
    KV_HEADS: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    D_PAD: tl.constexpr,  # noqa: N803
    PAGE: tl.constexpr,  # noqa: N803
    KEYS_BY_TOKEN: tl.constexpr,  # noqa: N803
    WINDOWED: tl.constexpr,  # noqa: N803
):
    """One item in a tile of M query rows; ``members`` are its queries' flat tokens."""
    heads: tl.constexpr = GROUP * KV_HEADS
    m = tl.arange(0, M)
    d = tl.arange(0, D_PAD)
    member = m // GROUP
    inside = member < count
    token = tl.load(members + member, mask=inside, other=0).to(tl.int64)
    last = tl.load(positions + token, mask=inside, other=0).to(tl.int32)
    head = kv_head * GROUP + m % GROUP
    both = inside[:, None] & (d < D)[None, :]
    query = tl.load(qkv + (token * ((GROUP + 2) * KV_HEADS * D) + head * D)[:, None] + d[None, :], mask=both, other=0.0)
    acc = tl.zeros([M, D_PAD], tl.float32)
    total = tl.zeros([M], tl.float32)
    top = tl.full([M], float("-inf"), tl.float32)
    for at in range(begin, end, N):
        acc, total, top = attend_block(
            query, acc, total, top, at, end, last, window, scale, table, keys, values, kv_head,
            N, KV_HEADS, D, D_PAD, PAGE, KEYS_BY_TOKEN, True, WINDOWED,
        )  # fmt: skip
    weight = tl.where(total == 0.0, 1.0, total)  # a query may see none of these keys
    result = acc / weight[:, None]
    if partial < 0:
        to = out + (token * (heads * D) + head * D)[:, None] + d[None, :]
        tl.store(to, result.to(out.dtype.element_ty), mask=both)
    else:
        place = (partial + member).to(tl.int64) * heads + head
        tl.store(sums + (place * D)[:, None] + d[None, :], result, mask=both)
        tl.store(logs + place, top + tl.log2(weight), mask=inside)


@triton.jit(do_not_specialize=["table_width", "window"])
def attend_items(
    qkv,
    out,
    sums,
    logs,
    positions,
    header,
    items,
    members,
    tables,
    keys,
    values,
    table_width,
    window,
    scale,
    M: tl.constexpr,  # noqa: N803
    M_OWN: tl.constexpr,  # noqa: N803
    N: tl.constexpr,  # noqa: N803
    GROUP: tl.constexpr,  # noqa: N803
    KV_HEADS: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    D_PAD: tl.constexpr,  # noqa: N803
    PAGE: tl.constexpr,  # noqa: N803
    KEYS_BY_TOKEN: tl.constexpr,  # noqa: N803
    WINDOWED: tl.constexpr,  # noqa: N803
):
    """Grid (KV_HEADS, programs): each program takes every ``programs``-th of the header[0] items.

    qkv [T, (GROUP + 2) * KV_HEADS * D] with rotated queries, out [T, GROUP * KV_HEADS * D], positions int64 [T],
    items int32 [I, 6], tables int32 [R, table_width]; sums float32 [P, GROUP * KV_HEADS, D] and logs float32
    [P, GROUP * KV_HEADS] get the partial results.
    """
    kv_head = tl.program_id(0)
    for index in range(tl.program_id(1), tl.load(header), tl.num_programs(1)):
        item = items + index * 6
        mine = members + tl.load(item)
        count = tl.load(item + 1)
        table = tables + tl.load(item + 2).to(tl.int64) * table_width
        begin = tl.load(item + 3)
        end = tl.load(item + 4)
        partial = tl.load(item + 5)
        if count * GROUP <= M_OWN:
            attend_item(
                qkv, out, sums, logs, positions, mine, table, keys, values, window, scale, kv_head, count, begin, end,
                partial, M_OWN, N, GROUP, KV_HEADS, D, D_PAD, PAGE, KEYS_BY_TOKEN, WINDOWED,
            )  # fmt: skip
        else:
            attend_item(
                qkv, out, sums, logs, positions, mine, table, keys, values, window, scale, kv_head, count, begin, end,
                partial, M, N, GROUP, KV_HEADS, D, D_PAD, PAGE, KEYS_BY_TOKEN, WINDOWED,
            )  # fmt: skip


@triton.jit
def merge_partials(
    out,
    sums,
    logs,
    header,
    merged,
    offsets,
    partials,
    HEADS: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    D_PAD: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Results of tokens that have several partial ones. Grid (HEADS, Q); the first header[1] of Q are meant.

    out [T, HEADS * D]; merged int32 [Q], offsets int32 [Q + 1] and partials int32 [P] as in attention_work.Work.
    """
    head = tl.program_id(0)
    index = tl.program_id(1)
    if index < tl.load(header + 1):
        token = tl.load(merged + index).to(tl.int64)
        begin = tl.load(offsets + index)
        end = tl.load(offsets + index + 1)
        d = tl.arange(0, D_PAD)
        acc = tl.zeros([D_PAD], tl.float32)
        total = 0.0
        top = float("-inf")
        for at in range(begin, end, BLOCK):
            which = at + tl.arange(0, BLOCK)
            inside = which < end
            place = tl.load(partials + which, mask=inside, other=0).to(tl.int64) * HEADS + head
            log = tl.load(logs + place, mask=inside, other=float("-inf"))
            both = inside[:, None] & (d < D)[None, :]
            part = tl.load(sums + (place * D)[:, None] + d[None, :], mask=both, other=0.0)
            high = tl.maximum(top, tl.max(log, 0))
            base = tl.where(high == float("-inf"), 0.0, high)
            weight = tl.exp2(log - base)
            shrink = tl.exp2(top - base)
            total = total * shrink + tl.sum(weight, 0)
            acc = acc * shrink + tl.sum(part * weight[:, None], 0)
            top = high
        tl.store(out + token * (HEADS * D) + head * D + d, (acc / total).to(out.dtype.element_ty), mask=d < D)
