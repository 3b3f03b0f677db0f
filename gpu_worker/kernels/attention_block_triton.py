"""One step of attention on a GPU: a block of queries meets a block of keys, read page by page.

Online softmax with exponentials of base 2 (FlashAttention, arXiv 2205.14135): the running maximum, the sum and the
weighted values of each query are float32; products are of the model's dtype.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false, reportUndefinedVariable=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attend_block(
    query,
    acc,
    total,
    top,
    begin,
    end,
    last,
    window,
    scale,
    table,
    keys,
    values,
    kv_head,
    N: tl.constexpr,  # noqa: N803
    KV_HEADS: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    D_PAD: tl.constexpr,  # noqa: N803
    PAGE: tl.constexpr,  # noqa: N803
    KEYS_BY_TOKEN: tl.constexpr,  # noqa: N803
    MASKED: tl.constexpr,  # noqa: N803
    WINDOWED: tl.constexpr,  # noqa: N803
):
    """Keys at positions [begin, begin + N) of one row; returns acc, total and top.

    query [M, D_PAD]; acc float32 [M, D_PAD], total and top float32 [M]; last int32 [M], the position of each query;
    table: int32, the row's pages; keys and values: one layer's of the pool. Without MASKED every query sees every key
    (but for the window), with it those before ``end`` and not after the query. ``scale`` is positive and
    includes log2(e).
    """
    at = begin + tl.arange(0, N)
    d = tl.arange(0, D_PAD)
    if MASKED:
        page = tl.load(table + at // PAGE, mask=at < end, other=0).to(tl.int64)
    else:
        page = tl.load(table + at // PAGE).to(tl.int64)
    head = (page * KV_HEADS + kv_head) * (PAGE * D)
    token = at % PAGE
    if KEYS_BY_TOKEN:
        key_at = keys + (head + token * D)[None, :] + d[:, None]
    else:
        key_at = keys + (head + token)[None, :] + (d * PAGE)[:, None]
    value_at = values + (head + token * D)[:, None] + d[None, :]
    if MASKED:
        key = tl.load(key_at, mask=(at < end)[None, :] & (d < D)[:, None], other=0.0)
        value = tl.load(value_at, mask=(at < end)[:, None] & (d < D)[None, :], other=0.0)
    elif D_PAD > D:
        key = tl.load(key_at, mask=(d < D)[:, None], other=0.0)
        value = tl.load(value_at, mask=(d < D)[None, :], other=0.0)
    else:
        key = tl.load(key_at)
        value = tl.load(value_at)
    scores = tl.dot(query, key, input_precision="ieee")
    if MASKED:
        scores = tl.where((at < end)[None, :] & (at[None, :] <= last[:, None]), scores, float("-inf"))
    if WINDOWED:
        scores = tl.where(at[None, :] > last[:, None] - window, scores, float("-inf"))
    high = tl.maximum(top, tl.max(scores, 1) * scale)
    base = high
    if MASKED or WINDOWED:  # a query may have seen nothing yet
        base = tl.where(high == float("-inf"), 0.0, high)
    weights = tl.exp2(scores * scale - base[:, None])  # one instruction, and a tenth of them all
    shrink = tl.exp2(top - base)
    total = total * shrink + tl.sum(weights, 1)
    acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")
    return acc, total, high
