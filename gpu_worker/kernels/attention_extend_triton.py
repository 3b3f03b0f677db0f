"""Attention of chunks: one program takes a tile of queries of one KV head through all keys they see.

The query heads of a group are rows of the tile: row m is head m % GROUP of token m // GROUP, so that keys are read once
for all of them.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false, reportUndefinedVariable=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels.attention_block_triton import attend_block


@triton.jit(do_not_specialize=["table_width", "window"])
def attend_tiles(
    qkv,
    out,
    tiles,
    tables,
    keys,
    values,
    table_width,
    window,
    scale,
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
    """Grid (KV_HEADS, E). ``tiles`` int32 [E, 4] as in attention_work.Work.

    qkv [T, (GROUP + 2) * KV_HEADS * D] with rotated queries, out [T, GROUP * KV_HEADS * D], tables int32
    [R, table_width].
    """
    kv_head = tl.program_id(0)
    tile = tiles + tl.program_id(1) * 4
    row = tl.load(tile).to(tl.int64)
    first = tl.load(tile + 1)
    count = tl.load(tile + 2)
    position = tl.load(tile + 3)
    m = tl.arange(0, M)
    d = tl.arange(0, D_PAD)
    inside = (m // GROUP < count)[:, None] & (d < D)[None, :]
    token = (first + m // GROUP).to(tl.int64)
    head = kv_head * GROUP + m % GROUP
    query = tl.load(
        qkv + (token * ((GROUP + 2) * KV_HEADS * D) + head * D)[:, None] + d[None, :], mask=inside, other=0.0
    )
    last = position + m // GROUP
    acc = tl.zeros([M, D_PAD], tl.float32)
    total = tl.zeros([M], tl.float32)
    top = tl.full([M], float("-inf"), tl.float32)
    table = tables + row * table_width
    end = position + count
    begin = 0
    if WINDOWED:
        begin = tl.maximum(position + 1 - window, 0) // N * N
    full = tl.maximum((position + 1) // N * N, begin)  # keys before it are seen by every query
    for at in range(begin, full, N):
        acc, total, top = attend_block(
            query, acc, total, top, at, end, last, window, scale, table, keys, values, kv_head,
            N, KV_HEADS, D, D_PAD, PAGE, KEYS_BY_TOKEN, False, WINDOWED,
        )  # fmt: skip
    for at in range(full, end, N):
        acc, total, top = attend_block(
            query, acc, total, top, at, end, last, window, scale, table, keys, values, kv_head,
            N, KV_HEADS, D, D_PAD, PAGE, KEYS_BY_TOKEN, True, WINDOWED,
        )  # fmt: skip
    if WINDOWED:  # rows beyond the tile's tokens may have seen nothing
        total = tl.where(total == 0.0, 1.0, total)
    result = acc / total[:, None]
    tl.store(
        out + (token * (GROUP * KV_HEADS * D) + head * D)[:, None] + d[None, :],
        result.to(out.dtype.element_ty),
        mask=inside,
    )
