"""The numbers of one step, packed: columns in one stretch of memory, copied to the device at once.

Knows the layout, and how host memory is written while the device may still read it. Shapes: T tokens, R rows, L draws,
N rows of logits of this step's forward pass (N <= L), D new entries of page tables.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker.device import Mark, Queue

Column = TypeVar("Column")


class Sizes(NamedTuple):
    """How long the columns are."""

    tokens: int
    rows: int
    logits: int
    draws: int
    cells: int

    @property
    def lengths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the int64 and of the int32 columns."""
        t, r, n, draws, cells = self
        return (t, t, t, n, r, cells), (r + 1, r, draws, draws, draws, draws, draws, cells)

    @property
    def nbytes(self) -> int:
        longs, ints = self.lengths
        return 8 * sum(longs) + 4 * sum(ints)


class StepColumns(NamedTuple, Generic[Column]):
    """One step for the device. ``Column`` is a numpy array in host memory, or a tensor on the device."""

    input_ids: Column  # int64 [T]; an unseen token as its placeholder, see batch.placeholders
    positions: Column  # int64 [T]
    slots: Column  # int64 [T]
    logit_indices: Column  # int64 [N]
    rows: Column  # int64 [R], row slots
    cells: Column  # int64 [D], places in the page tables: row slot * width + page
    starts: Column  # int32 [R + 1]
    kv_lens: Column  # int32 [R]
    draws: Column  # int32 [L], row slots that a token is drawn for; -1 where none is
    automata: Column  # int32 [L], indices of resident automata, or FREE
    states: Column  # int32 [L], their states; -1: as the device left them
    bases: Column  # int32 [L], where the masks of their states begin in the table; -1: ``masks`` says the mask
    masks: Column  # int32 [L], rows of the mask pool, or FREE
    pages: Column  # int32 [D], what stands in the cells


Host = StepColumns[NDArray[np.signedinteger]]


def columns_on_host(buffer: NDArray[np.uint8], sizes: Sizes) -> Host:
    """Views of the first ``sizes.nbytes`` bytes of a buffer."""
    longs, ints = sizes.lengths
    end = 8 * sum(longs)
    return StepColumns(
        *np.split(buffer[:end].view(np.int64), np.cumsum(longs)[:-1]),
        *np.split(buffer[end : sizes.nbytes].view(np.int32), np.cumsum(ints)[:-1]),
    )


def columns_on_device(buffer: Tensor, sizes: Sizes) -> StepColumns[Tensor]:
    """Views of the same layout in uint8 memory of a device."""
    longs, ints = sizes.lengths
    end = 8 * sum(longs)
    return StepColumns(
        *buffer[:end].view(torch.int64).split(longs), *buffer[end : sizes.nbytes].view(torch.int32).split(ints)
    )


class Sender:
    """Two buffers in host memory in turn: one is written while the device may still be reading the other."""

    def __init__(self, queue: Queue, device: torch.device) -> None:
        self._queue = queue
        self._device = device
        self._buffers = [queue.host_buffer(0), queue.host_buffer(0)]
        self._read: list[Mark | None] = [None, None]  # when the device had read each of them
        self._turn = 0

    def columns(self, sizes: Sizes) -> Host:
        """Columns to be filled now and then sent. Waits only for the copy of two steps before."""
        self._turn = 1 - self._turn
        read = self._read[self._turn]
        if read is not None:
            read.wait()
        if len(self._buffers[self._turn]) < sizes.nbytes:
            self._buffers[self._turn] = self._queue.host_buffer(1 << (sizes.nbytes - 1).bit_length())
        return columns_on_host(self._buffers[self._turn].numpy(), sizes)

    def send(self, sizes: Sizes, into: Tensor | None = None) -> Tensor:
        """One copy of what was filled, into uint8 [nbytes] on the device or into new memory there."""
        if into is None:
            into = torch.empty(sizes.nbytes, dtype=torch.uint8, device=self._device)
        into.copy_(self._buffers[self._turn][: sizes.nbytes], non_blocking=True)
        self._read[self._turn] = self._queue.mark()
        return into
