"""Rows of float32 as the operands of products: as they are, as bfloat16, or as bytes with the scale of each group.

Bytes carry 32 values each with a scale and the scaled sum, which is what the minimum of a weight's group is multiplied
by (llama.cpp's Q8_1).
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, njit  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor

from gpu_worker.grouped import GROUP
from gpu_worker.kernels.panels import Format
from gpu_worker.kernels.simd import narrow, pointer
from gpu_worker.kernels.vector_width import BFLOAT16_DOTS, INT8_DOTS


class Form(IntEnum):
    """How activations are stored."""

    F32 = 0
    BF16 = 1
    INT8 = 2


def form_for(format: Format) -> Form:
    """What products with weights of this format take on this machine."""
    if format.is_grouped and INT8_DOTS:
        return Form.INT8
    return Form.BF16 if format is Format.BF16 and BFLOAT16_DOTS else Form.F32


class Rows(NamedTuple):
    """Room for ``capacity`` rows of operands."""

    values: Tensor  # uint8 [capacity, stride]
    scales: Tensor  # float32 [capacity, groups, 2]

    @property
    def stride(self) -> int:
        """Bytes from row to row."""
        return self.values.shape[1]

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """Values, their stride, scales, their stride: four arguments in succession of every kernel that has rows."""
        return self.values.data_ptr(), self.stride, self.scales.data_ptr(), self.scales.shape[1] * 8


def room(form: Form, capacity: int, width: int) -> Rows:
    """Rows of ``width`` values."""
    size = {Form.F32: 4, Form.BF16: 2, Form.INT8: 1}[form]
    groups = width // GROUP if form is Form.INT8 else 0
    return Rows(torch.zeros(capacity, width * size, dtype=torch.uint8), torch.zeros(capacity, groups, 2))


@njit(inline="always", fastmath=True)
def store_row(form: int, row: Any, width: int, values_at: int, scales_at: int) -> None:
    """Write float32 ``row`` [width] to ``values_at``, and scales to ``scales_at``."""
    if form == 2:
        bytes_out = carray(pointer(values_at), (width,), np.int8)
        scales = carray(pointer(scales_at), (width // GROUP, 2), np.float32)
        for group in range(width // GROUP):
            first = group * GROUP
            largest = np.float32(0)
            for i in range(GROUP):
                largest = max(largest, abs(row[first + i]))
            scale = largest * np.float32(1 / 127)
            inverse = np.float32(127) / largest if largest > np.float32(0) else np.float32(0)
            total = np.int32(0)
            for i in range(GROUP):
                value = np.int32(np.rint(row[first + i] * inverse))
                bytes_out[first + i] = np.int8(value)
                total += value
            scales[group, 0] = scale
            scales[group, 1] = scale * np.float32(total)
    elif form == 1:
        halves = carray(pointer(values_at), (width,), np.uint16)
        for i in range(width):
            halves[i] = narrow(row[i], np.uint16(0))
    else:
        floats = carray(pointer(values_at), (width,), np.float32)
        for i in range(width):
            floats[i] = row[i]
