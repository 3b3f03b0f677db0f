"""Memory in huge pages where the system gives them: a step reads all weights, and each small page costs a table walk.

Linux, where /sys/kernel/mm/transparent_hugepage/enabled is ``madvise`` or ``always``; elsewhere plain memory. Measured
on two Zen 4 cores in a virtual machine: see docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import mmap

import torch
from torch import Tensor

_HUGE = 2 * 2**20
_LINE = 64  # bytes: what rows of an arena are aligned to
_BLOCK = 32 * 2**20


def huge_empty(size: int) -> Tensor:
    """uint8 [size], zeros until written, aligned to a huge page."""
    memory = mmap.mmap(-1, max(size, 1) + _HUGE)
    with contextlib.suppress(OSError, AttributeError):  # not every kernel or system has them
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)  # keeps ``memory`` alive
    start = -whole.data_ptr() % _HUGE
    return whole[start : start + size]


class Arena:
    """Many tensors side by side, because most of a model's are smaller than a huge page."""

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def keep(self, data: Tensor) -> Tensor:
        """A copy of uint8 [n] in the arena."""
        size = data.numel()
        if self._used + size > self._block.numel():
            self._block, self._used = huge_empty(max(_BLOCK, size)), 0
        kept = self._block[self._used : self._used + size]
        self._used += -(-size // _LINE) * _LINE
        return kept.copy_(data)
