"""Parts of attention merged by their log-sum-exp, and the result made the operand of the product that follows."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.activations_cpu import Form, store_row
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COUNTER, FIELDS, FRAME, PART_LIST, PART_STARTS, PARTS, TOKENS
from gpu_worker.kernels.math_cpu import exp2
from gpu_worker.kernels.simd import claim, pointer

(X, OUT, OUT_STRIDE, SCALES, SCALES_STRIDE) = range(2, 7)
ARGUMENTS = 7
PART_EXTRA = 2  # after the sums of a head: the sum of weights, and the largest score in powers of two


def merge_body(heads: int, dim: int, form: Form) -> Body:
    """X is float32 [T, heads, dim], complete where a token has no parts; parts are float32 [P, heads, dim + 2].

    A task is a token.
    """
    kind = int(form)
    width = heads * dim
    part_width = dim + PART_EXTRA
    lowest = np.float32(-1e30)

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        frame = carray(pointer(a[FRAME]), (FIELDS,), np.int64)
        tokens = frame[TOKENS]
        starts = carray(pointer(frame[PART_STARTS]), (tokens + 1,), np.int32)
        listed = carray(pointer(frame[PART_LIST]), (np.int64(starts[tokens]),), np.int32)
        parts = carray(pointer(frame[PARTS]), (np.int64(starts[tokens]), heads, part_width), np.float32)
        x = carray(pointer(a[X]), (tokens, heads, dim), np.float32)
        rows = carray(pointer(a[X]), (tokens, width), np.float32)
        while True:
            t = claim(a[COUNTER])
            if t >= tokens:
                break
            begin, end = np.int64(starts[t]), np.int64(starts[t + 1])
            if begin < end:
                for head in range(heads):
                    top = lowest
                    for n in range(begin, end):
                        top = max(top, parts[listed[n], head, dim + 1])
                    total = np.float32(0)
                    for i in range(dim):
                        x[t, head, i] = np.float32(0)
                    for n in range(begin, end):
                        part = parts[listed[n], head]
                        share = exp2(part[dim + 1] - top)
                        total += part[dim] * share
                        for i in range(dim):
                            x[t, head, i] += part[i] * share
                    share = np.float32(1) / total
                    for i in range(dim):
                        x[t, head, i] *= share
            store_row(kind, rows[t], width, a[OUT] + t * a[OUT_STRIDE], a[SCALES] + t * a[SCALES_STRIDE])

    return body
