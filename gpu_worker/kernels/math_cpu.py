"""Elementary functions for compiled kernels, written so that LLVM turns loops over them into vectors."""

# pyright: reportCallIssue=false

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from gpu_worker.kernels.simd import float_of_bits

LOG2_E = 1.4426950408889634
_LOWEST = np.float32(-126.0)


@njit(inline="always", fastmath=True)
def exp2(x: Any) -> Any:
    """2 ** x for float32 x <= 126 to a relative error of 2e-7; results below the smallest normal are about 1e-38.

    The integer part goes into the exponent bits, the fraction through a Chebyshev fit of degree 6.
    """
    x = max(x, _LOWEST)
    whole = np.float32(math.floor(x))
    f = x - whole
    p = np.float32(2.18775051e-4)
    p = p * f + np.float32(1.23878219e-3)
    p = p * f + np.float32(9.68458038e-3)
    p = p * f + np.float32(5.5480428e-2)
    p = p * f + np.float32(2.40230501e-1)
    p = p * f + np.float32(6.93146944e-1)
    p = p * f + np.float32(1.0)
    return p * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))
