"""RMSNorm compiled for the CPU, alone and fused with the residual addition."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.simd import claim, narrow, pointer, widen

COUNTER, BLOCKS, TOKENS, X, RESIDUAL, WEIGHT, OUT, EPS = range(8)
ARGUMENTS = 8
BLOCK = 8  # tokens per task


def rms_norm_body(hidden: int, element: type, has_residual: bool) -> Body:
    """Arguments by the names above: addresses, numbers, and at EPS the bits of a float64."""

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        tokens = a[TOKENS]
        eps = carray(arguments, (ARGUMENTS,), np.float64)[EPS]
        x = carray(pointer(a[X]), (tokens, hidden), element)
        residual = carray(pointer(a[RESIDUAL]), (tokens, hidden), element)
        weight = carray(pointer(a[WEIGHT]), (hidden,), element)
        out = carray(pointer(a[OUT]), (tokens, hidden), element)
        while True:
            block = claim(a[COUNTER])
            if block >= a[BLOCKS]:
                break
            for t in range(block * BLOCK, min(tokens, block * BLOCK + BLOCK)):
                squares = np.float32(0)
                if has_residual:
                    for i in range(hidden):
                        stored = narrow(widen(x[t, i]) + widen(residual[t, i]), x[t, i])
                        residual[t, i] = stored
                        value = widen(stored)
                        squares += value * value
                else:
                    for i in range(hidden):
                        value = widen(x[t, i])
                        squares += value * value
                factor = np.float32(1.0 / np.sqrt(squares / hidden + eps))
                source = residual if has_residual else x
                for i in range(hidden):
                    out[t, i] = narrow(widen(source[t, i]) * factor * widen(weight[i]), x[t, i])

    return body
