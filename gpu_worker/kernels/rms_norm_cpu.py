"""RMSNorm compiled for the CPU: from the float32 residual to the operands of the product that follows."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.activations_cpu import Form, store_row
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COUNTER, FIELDS, FRAME, NUM_WANTED, TOKENS, WANTED
from gpu_worker.kernels.simd import claim, pointer, stack

(X, WEIGHT, EPS, OUT, OUT_STRIDE, SCALES, SCALES_STRIDE) = range(2, 9)
ARGUMENTS = 9


def rms_norm_body(hidden: int, form: Form, only_wanted: bool) -> Body:
    """X and WEIGHT are float32, EPS the bits of a float64; a task is a token, or a wanted one."""
    row_bytes, kind = hidden * 4, int(form)
    count_field = NUM_WANTED if only_wanted else TOKENS

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        eps = carray(arguments, (ARGUMENTS,), np.float64)[EPS]
        frame = carray(pointer(a[FRAME]), (FIELDS,), np.int64)
        tokens = frame[TOKENS]
        rows = frame[count_field]
        wanted = carray(pointer(frame[WANTED]), (rows,), np.int64)
        x = carray(pointer(a[X]), (tokens, hidden), np.float32)
        weight = carray(pointer(a[WEIGHT]), (hidden,), np.float32)
        normed = carray(pointer(stack(row_bytes)), (hidden,), np.float32)
        while True:
            n = claim(a[COUNTER])
            if n >= rows:
                break
            t = wanted[n] if only_wanted else n
            squares = np.float32(0)
            for i in range(hidden):
                squares += x[t, i] * x[t, i]
            factor = np.float32(1.0 / np.sqrt(squares / hidden + eps))
            for i in range(hidden):
                normed[i] = x[t, i] * factor * weight[i]
            store_row(kind, normed, hidden, a[OUT] + n * a[OUT_STRIDE], a[SCALES] + n * a[SCALES_STRIDE])

    return body
