"""Head norms, rotary embedding and the write into the KV pool, in one compiled kernel."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.simd import claim, narrow, pointer, stack, widen

COUNTER, BLOCKS, TOKENS, QKV, COS, SIN, SLOTS, KEYS, VALUES, PAGE_SIZE, Q_NORM, K_NORM, EPS = range(13)
ARGUMENTS = 13
BLOCK = 8  # tokens per task
_MANY = 1 << 40  # pages: the length of the pool is not needed, as indices are not checked


def rotary_body(heads: int, kv_heads: int, dim: int, element: type, has_norms: bool) -> Body:
    """Arguments by the names above. Queries are left, rotated, where they were; keys and values go to the pool."""
    half = dim // 2
    scratch_bytes = dim * 4

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        tokens, page_size = a[TOKENS], a[PAGE_SIZE]
        eps = carray(arguments, (ARGUMENTS,), np.float64)[EPS]
        qkv = carray(pointer(a[QKV]), (tokens, heads + 2 * kv_heads, dim), element)
        cos = carray(pointer(a[COS]), (tokens, half), np.float32)
        sin = carray(pointer(a[SIN]), (tokens, half), np.float32)
        slots = carray(pointer(a[SLOTS]), (tokens,), np.int64)
        keys = carray(pointer(a[KEYS]), (_MANY, kv_heads, dim, page_size), element)
        values = carray(pointer(a[VALUES]), (_MANY, kv_heads, page_size, dim), element)
        q_norm = carray(pointer(a[Q_NORM]), (dim,), element)
        k_norm = carray(pointer(a[K_NORM]), (dim,), element)
        x = carray(pointer(stack(scratch_bytes)), (dim,), np.float32)
        while True:
            block = claim(a[COUNTER])
            if block >= a[BLOCKS]:
                break
            for t in range(block * BLOCK, min(tokens, block * BLOCK + BLOCK)):
                page = slots[t] // page_size
                offset = slots[t] - page * page_size
                for head in range(heads + kv_heads):
                    if has_norms:
                        squares = np.float32(0)
                        for i in range(dim):
                            value = widen(qkv[t, head, i])
                            squares += value * value
                        factor = np.float32(1.0 / np.sqrt(squares / dim + eps))
                        norm = q_norm if head < heads else k_norm
                        for i in range(dim):
                            x[i] = widen(qkv[t, head, i]) * factor * widen(norm[i])
                    else:
                        for i in range(dim):
                            x[i] = widen(qkv[t, head, i])
                    for i in range(half):
                        first, second = x[i], x[i + half]
                        x[i] = first * cos[t, i] - second * sin[t, i]
                        x[i + half] = second * cos[t, i] + first * sin[t, i]
                    if head < heads:
                        for i in range(dim):
                            qkv[t, head, i] = narrow(x[i], qkv[t, head, i])
                    else:
                        for i in range(dim):
                            keys[page, head - heads, i, offset] = narrow(x[i], qkv[t, head, i])
                for head in range(kv_heads):
                    for i in range(dim):
                        values[page, head, offset, i] = qkv[t, heads + kv_heads + head, i]

    return body
