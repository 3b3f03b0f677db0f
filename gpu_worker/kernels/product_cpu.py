"""Matrix products on the CPU with packed weights, compiled: a task is one panel of outputs for all tokens.

Decoding reads every weight once, from front to back; with many tokens a panel stays in the cache while they go by.
What follows a product is done in its own task, while the sums are in the cache: bias, the residual, or the gate.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COUNTER, FIELDS, FRAME, NUM_WANTED, TOKENS
from gpu_worker.kernels.math_cpu import LOG2_E, exp2
from gpu_worker.kernels.panels import PANEL, Format
from gpu_worker.kernels.product_simd import ROWS, multiply_panel
from gpu_worker.kernels.simd import claim, pointer, stack

(WEIGHTS, PANEL_BYTES, PANELS, INPUTS, WIDTH, X, X_STRIDE, SCALES, SCALES_STRIDE, BIAS, OUT) = range(2, 13)
ARGUMENTS = 13
_LARGEST = np.float32(126)


class Ending(IntEnum):
    """What becomes of the sums."""

    STORE = 0  # out = sums
    ADD = 1  # out += sums
    GATE = 2  # out = silu(first half of the panel) * second half


def product_body(form: Format, ending: Ending, only_wanted: bool = False) -> Body:
    """X are rows in the form that ``form_for(form)`` names, OUT is float32 [T, WIDTH]; a task is a panel.

    With ``only_wanted`` the rows are those tokens whose logits are wanted. BIAS is the address of a float32 for every
    output of every panel, or 0. For GATE the first half of each panel are gates, the second what they let through.
    """
    sums_bytes = ROWS * PANEL * 4
    kind = int(form)
    is_add, is_gate = ending is Ending.ADD, ending is Ending.GATE
    half = PANEL // 2
    size = half if is_gate else PANEL
    count_field = NUM_WANTED if only_wanted else TOKENS

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        tokens = carray(pointer(a[FRAME]), (FIELDS,), np.int64)[count_field]
        width = a[WIDTH]
        bias = carray(pointer(a[BIAS]), (a[PANELS], PANEL), np.float32)
        has_bias = a[BIAS] != 0
        out = carray(pointer(a[OUT]), (tokens, width), np.float32)
        sums_at = stack(sums_bytes)
        sums = carray(pointer(sums_at), (ROWS, PANEL), np.float32)
        blocks = (tokens + ROWS - 1) // ROWS
        while True:
            panel = claim(a[COUNTER])
            if panel >= a[PANELS]:
                break
            weights = a[WEIGHTS] + panel * a[PANEL_BYTES]
            first = panel * size
            count = min(size, width - first)
            for block in range(blocks):
                t = block * tokens // blocks
                rows = (block + 1) * tokens // blocks - t
                x, scales = a[X] + t * a[X_STRIDE], a[SCALES] + t * a[SCALES_STRIDE]
                if rows == 6:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 6, kind)
                elif rows == 5:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 5, kind)
                elif rows == 4:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 4, kind)
                elif rows == 3:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 3, kind)
                elif rows == 2:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 2, kind)
                else:
                    multiply_panel(weights, a[INPUTS], x, a[X_STRIDE], scales, a[SCALES_STRIDE], sums_at, 1, kind)
                for r in range(rows):
                    if has_bias:
                        for n in range(PANEL):
                            sums[r, n] += bias[panel, n]
                    if is_gate:
                        for n in range(half):
                            gate = sums[r, n]
                            fade = np.float32(1) + exp2(min(gate * np.float32(-LOG2_E), _LARGEST))
                            sums[r, n] = gate / fade * sums[r, half + n]
                    if is_add:
                        for n in range(count):
                            out[t + r, first + n] += sums[r, n]
                    else:
                        for n in range(count):
                            out[t + r, first + n] = sums[r, n]

    return body
