"""What constrained decoding asks of a device: three operations on rows of packed bits.

Shapes: V tokens, W = ceil(V / 32) words of a mask row, M rows in the pool, R rows of a batch. Bit i % 32 of word
i // 32 is token i. In an automaton state 0 is dead. All tensors are contiguous and on the kernels' device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from gpu_worker.kernels.automata import AutomataArrays
from shared.grammar import Tables

FREE = -1
"""In place of a mask row or of an automaton: nothing is asked of this row."""


class MaskKernels(Protocol):
    """The operations of one device, for one vocabulary. For one thread at a time."""

    def apply(self, logits: Tensor, pool: Tensor, rows: Tensor) -> None:
        """Minus infinity, in place, wherever the row's mask has a 0.

        ``logits`` float32 [R, V], ``pool`` int32 [M, W], ``rows`` int32 [R]: an index into the pool, or FREE.
        """
        ...

    def build(self, pool: Tensor, targets: Sequence[int], states: Sequence[int], tables: Tables) -> None:
        """Write rows of the pool: those tokens whose bytes lead from a state to one that is not dead.

        ``targets[k]`` is the row of ``pool``, int32 [M, W], for ``states[k]``; no row is named twice. Tokens without a
        spelling (special ones, end of sequence too) have a 0, and so have the bits beyond V.
        """
        ...

    def advance(self, states: Tensor, tokens: Tensor, automata: AutomataArrays, which: Tensor) -> Tensor:
        """The states after the bytes of one token each: int32 [R]; 0 is dead.

        ``states`` int32 [R], ``tokens`` int64 [R] in 0 … V - 1, ``which`` int32 [R]: each row's automaton, or FREE. A
        free row keeps its state, and a token without a spelling changes none.
        """
        ...
