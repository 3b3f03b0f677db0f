"""Rows of the token embedding from packed weights: tied embeddings lie in memory once."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.grouped import GROUP
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.frame_cpu import COUNTER, FIELDS, FRAME, INPUT_IDS, TOKENS
from gpu_worker.kernels.panels import PANEL, Format, group_bytes
from gpu_worker.kernels.simd import claim, pointer, widen, widen_half

(WEIGHTS, PANEL_BYTES, OUT) = range(2, 5)
ARGUMENTS = 5


def embedding_body(format: Format, hidden: int) -> Body:
    """Out, float32 [T, hidden], from the packed embedding [V, hidden]. A task is a token."""
    is_floats, is_halves, is_bytes = format is Format.F32, format is Format.BF16, format is Format.Q8
    groups = hidden // GROUP
    stride = group_bytes(format) if format.is_grouped else 0
    value_bytes = stride - 4 * PANEL

    def body(arguments: Any) -> None:
        a = carray(arguments, (ARGUMENTS,), np.int64)
        frame = carray(pointer(a[FRAME]), (FIELDS,), np.int64)
        tokens = frame[TOKENS]
        ids = carray(pointer(frame[INPUT_IDS]), (tokens,), np.int64)
        out = carray(pointer(a[OUT]), (tokens, hidden), np.float32)
        while True:
            t = claim(a[COUNTER])
            if t >= tokens:
                break
            panel = ids[t] // PANEL
            lane = ids[t] - panel * PANEL
            base = a[WEIGHTS] + panel * a[PANEL_BYTES]
            if is_floats:
                floats = carray(pointer(base), (hidden, PANEL), np.float32)
                for i in range(hidden):
                    out[t, i] = floats[i, lane]
            elif is_halves:
                halves = carray(pointer(base), (hidden // 2, PANEL, 2), np.uint16)
                for i in range(hidden // 2):
                    out[t, 2 * i] = widen(halves[i, lane, 0])
                    out[t, 2 * i + 1] = widen(halves[i, lane, 1])
            else:
                for group in range(groups):
                    at = base + group * stride
                    columns = carray(pointer(at + value_bytes), (2, PANEL), np.uint16)
                    scale, least = widen_half(columns[0, lane]), widen_half(columns[1, lane])
                    if is_bytes:
                        values = carray(pointer(at), (GROUP // 4, PANEL, 4), np.uint8)
                        for i in range(GROUP):
                            out[t, group * GROUP + i] = np.float32(values[i // 4, lane, i % 4]) * scale + least
                    else:
                        packed = carray(pointer(at), (GROUP // 8, PANEL, 4), np.uint8)
                        for i in range(GROUP):
                            both = packed[i // 8, lane, i % 4]
                            value = both >> 4 if i % 8 >= 4 else both & 15
                            out[t, group * GROUP + i] = np.float32(value) * scale + least

    return body
