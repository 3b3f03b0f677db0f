"""Head norms, rotary embedding and the write into the KV pool, in one compiled kernel."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COS, COUNTER, FIELDS, FRAME, PAGE_SIZE, POSITIONS, SIN, SLOTS, TOKENS
from gpu_worker.kernels.simd import claim, narrow, pointer, stack

(QKV, KEYS, VALUES, Q_NORM, K_NORM, EPS) = range(2, 8)
ARGUMENTS = 8
_MANY = 1 << 40  # pages: the length of the pool is not needed, as indices are not checked


def rotary_body(heads: int, kv_heads: int, dim: int, element: type, has_norms: bool) -> Body:
    """QKV is float32 [T, heads + 2 * kv_heads, dim]; queries are left, rotated, where they were; a task is a token.

    The frame's COS and SIN are float32 [positions, dim / 2]; the norms' weights are float32 [dim].
    """
    half = dim // 2
    scratch_bytes = dim * 4
    like = element(0)

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        eps = carray(arguments, (ARGUMENTS,), np.float64)[EPS]
        frame = carray(pointer(a[FRAME]), (FIELDS,), np.int64)
        tokens, page_size = frame[TOKENS], frame[PAGE_SIZE]
        qkv = carray(pointer(a[QKV]), (tokens, heads + 2 * kv_heads, dim), np.float32)
        cosines = carray(pointer(frame[COS]), (_MANY, half), np.float32)
        sines = carray(pointer(frame[SIN]), (_MANY, half), np.float32)
        positions = carray(pointer(frame[POSITIONS]), (tokens,), np.int64)
        slots = carray(pointer(frame[SLOTS]), (tokens,), np.int64)
        keys = carray(pointer(a[KEYS]), (_MANY, kv_heads, dim, page_size), element)
        values = carray(pointer(a[VALUES]), (_MANY, kv_heads, page_size, dim), element)
        q_norm = carray(pointer(a[Q_NORM]), (dim,), np.float32)
        k_norm = carray(pointer(a[K_NORM]), (dim,), np.float32)
        x = carray(pointer(stack(scratch_bytes)), (dim,), np.float32)
        while True:
            t = claim(a[COUNTER])
            if t >= tokens:
                break
            page = slots[t] // page_size
            offset = slots[t] - page * page_size
            cos, sin = cosines[positions[t]], sines[positions[t]]
            for head in range(heads + kv_heads):
                if has_norms:
                    squares = np.float32(0)
                    for i in range(dim):
                        squares += qkv[t, head, i] * qkv[t, head, i]
                    factor = np.float32(1.0 / np.sqrt(squares / dim + eps))
                    norm = q_norm if head < heads else k_norm
                    for i in range(dim):
                        x[i] = qkv[t, head, i] * factor * norm[i]
                else:
                    for i in range(dim):
                        x[i] = qkv[t, head, i]
                for i in range(half):
                    first, second = x[i], x[i + half]
                    x[i] = first * cos[i] - second * sin[i]
                    x[i + half] = second * cos[i] + first * sin[i]
                if head < heads:
                    for i in range(dim):
                        qkv[t, head, i] = x[i]
                else:
                    for i in range(dim):
                        keys[page, head - heads, i, offset] = narrow(x[i], like)
            for head in range(kv_heads):
                for i in range(dim):
                    values[page, head, offset, i] = narrow(qkv[t, heads + kv_heads + head, i], like)

    return body
