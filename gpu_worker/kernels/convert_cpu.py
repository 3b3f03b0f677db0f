"""Rows of float32 made the operands of a product."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.activations_cpu import Form, store_row
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COUNTER, FIELDS, FRAME, TOKENS
from gpu_worker.kernels.simd import claim, pointer

(X, OUT, OUT_STRIDE, SCALES, SCALES_STRIDE) = range(2, 7)
ARGUMENTS = 7


def convert_body(width: int, form: Form) -> Body:
    """X is float32 [T, width]; a task is a token."""
    kind = int(form)

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        tokens = carray(pointer(a[FRAME]), (FIELDS,), np.int64)[TOKENS]
        x = carray(pointer(a[X]), (tokens, width), np.float32)
        while True:
            t = claim(a[COUNTER])
            if t >= tokens:
                break
            store_row(kind, x[t], width, a[OUT] + t * a[OUT_STRIDE], a[SCALES] + t * a[SCALES_STRIDE])

    return body
