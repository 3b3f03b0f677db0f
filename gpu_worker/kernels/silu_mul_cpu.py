"""silu(gate) * up compiled for the CPU."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.math_cpu import LOG2_E, exp2
from gpu_worker.kernels.simd import claim, narrow, pointer, widen

COUNTER, BLOCKS, TOKENS, GATE_UP, OUT = range(5)
ARGUMENTS = 5
BLOCK = 8  # tokens per task
_MINUS_LOG2_E = np.float32(-LOG2_E)
_HIGHEST = np.float32(126.0)


def silu_mul_body(inner: int, element: type) -> Body:
    """Arguments by the names above."""

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        tokens = a[TOKENS]
        gate_up = carray(pointer(a[GATE_UP]), (tokens, 2, inner), element)
        out = carray(pointer(a[OUT]), (tokens, inner), element)
        while True:
            block = claim(a[COUNTER])
            if block >= a[BLOCKS]:
                break
            for t in range(block * BLOCK, min(tokens, block * BLOCK + BLOCK)):
                for i in range(inner):
                    gate = widen(gate_up[t, 0, i])
                    grown = exp2(min(gate * _MINUS_LOG2_E, _HIGHEST))
                    out[t, i] = narrow(gate / (np.float32(1) + grown) * widen(gate_up[t, 1, i]), gate_up[t, 0, i])

    return body
