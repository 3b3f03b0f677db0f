"""Rotary embedding of queries in place, and of keys on their way into the KV pool; values go with them."""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["size"])
def cos_sin_table(
    cos,
    sin,
    positions,
    frequencies,
    scale,
    size,
    HALF: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Cosines and sines float32 [T, HALF] of positions int64 [T]. Grid (ceil(T * HALF / BLOCK),), size T * HALF.

    Once a pass: layers read them, so that a large angle's reduction costs nothing there.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    position = tl.load(positions + at // HALF, mask=inside, other=0)
    angle = position.to(tl.float32) * tl.load(frequencies + at % HALF, mask=inside, other=0.0)
    tl.store(cos + at, tl.cos(angle) * scale, mask=inside)
    tl.store(sin + at, tl.sin(angle) * scale, mask=inside)


@triton.jit(do_not_specialize=["size"])
def rotate_and_store(
    qkv,
    cos,
    sin,
    slots,
    keys,
    values,
    q_norm,
    k_norm,
    eps,
    size,
    HEADS: tl.constexpr,  # noqa: N803
    KV_HEADS: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    HALF_PAD: tl.constexpr,  # noqa: N803
    PAGE: tl.constexpr,  # noqa: N803
    KEYS_BY_TOKEN: tl.constexpr,  # noqa: N803
    NORMED: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Grid (ceil(size / BLOCK),) over the size = T * (HEADS + 2 * KV_HEADS) heads of all tokens.

    qkv [T, (HEADS + 2 * KV_HEADS) * D], cos and sin float32 [T, D / 2], slots int64 [T], negative for tokens whose KV
    goes nowhere; keys and values: one layer's of the pool. q_norm and k_norm [D], used if NORMED: an RMSNorm of each
    head before it is rotated. Queries are written where they were.
    """
    half: tl.constexpr = D // 2
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    token = (index // (HEADS + 2 * KV_HEADS)).to(tl.int64)
    head = index % (HEADS + 2 * KV_HEADS)
    d = tl.arange(0, HALF_PAD)
    inside = (index < size)[:, None] & (d < half)[None, :]
    is_query = (head < HEADS)[:, None]
    is_value = (head >= HEADS + KV_HEADS)[:, None]
    at = qkv + (index.to(tl.int64) * D)[:, None] + d[None, :]
    first = tl.load(at, mask=inside, other=0.0)
    second = tl.load(at + half, mask=inside, other=0.0)
    dtype = first.dtype
    x, y = first.to(tl.float32), second.to(tl.float32)
    if NORMED:
        factor = tl.rsqrt((tl.sum(x * x, 1) + tl.sum(y * y, 1)) / D + eps)[:, None]
        weight = tl.where(is_query, _half(q_norm, d, half), _half(k_norm, d, half))
        x = (weight * (x * factor).to(dtype).to(tl.float32)).to(dtype).to(tl.float32)
        weight = tl.where(is_query, _half(q_norm + half, d, half), _half(k_norm + half, d, half))
        y = (weight * (y * factor).to(dtype).to(tl.float32)).to(dtype).to(tl.float32)
    angle = (token * half)[:, None] + d[None, :]
    rotated = inside & ~is_value
    c = tl.load(cos + angle, mask=rotated, other=0.0)
    s = tl.load(sin + angle, mask=rotated, other=0.0)
    left = tl.where(is_value, first, (x * c - y * s).to(dtype))
    right = tl.where(is_value, second, (y * c + x * s).to(dtype))
    tl.store(at, left, mask=inside & is_query)
    tl.store(at + half, right, mask=inside & is_query)
    slot = tl.load(slots + token, mask=(index < size) & (head >= HEADS), other=-1)
    kept = inside & (slot >= 0)[:, None]
    page, offset = slot // PAGE, slot % PAGE
    is_key = kept & ~is_query & ~is_value
    row = (page * KV_HEADS + head - HEADS) * (PAGE * D)
    if KEYS_BY_TOKEN:
        to = keys + (row + offset * D)[:, None] + d[None, :]
        tl.store(to, left, mask=is_key)
        tl.store(to + half, right, mask=is_key)
    else:
        to = keys + (row + offset)[:, None] + (d * PAGE)[None, :]
        tl.store(to, left, mask=is_key)
        tl.store(to + half * PAGE, right, mask=is_key)
    to = values + (row - KV_HEADS * PAGE * D + offset * D)[:, None] + d[None, :]
    tl.store(to, left, mask=kept & is_value)
    tl.store(to + half, right, mask=kept & is_value)


@triton.jit
def _half(weights, d, half: tl.constexpr):
    return tl.load(weights + d, mask=d < half, other=0.0).to(tl.float32)[None, :]
