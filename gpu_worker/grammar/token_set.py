"""A grammar of tokens instead of texts: each one is of a given set."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpu_worker.grammar.matcher import MaskRows
from shared.protocol import Jump


class TokensGrammar:
    """A set of token ids, and its bits."""

    def __init__(self, ids: NDArray[np.int32], vocab_size: int) -> None:
        """Ids that are no tokens of the vocabulary are left out."""
        self.allowed = frozenset(id for id in ids.tolist() if 0 <= id < vocab_size)
        bits = np.zeros(-(-vocab_size // 32) * 32, np.bool_)
        bits[sorted(self.allowed)] = True
        self.bits = np.packbits(bits, bitorder="little").tobytes()
        self.nbytes = len(self.bits) + 64 * len(self.allowed)

    def matcher(self, jump: Jump, slot: int) -> TokensMatcher:
        """A new matcher, which writes its mask into the scratch row of ``slot``."""
        del jump  # nothing is ever forced
        return TokensMatcher(self, slot)


class TokensMatcher:
    """One row's view of the set: the same after every token. The text may end where a token of the set ends it."""

    accepting = True
    terminal = False
    spent = False
    exhausted = False

    def __init__(self, grammar: TokensGrammar, slot: int) -> None:
        self._grammar = grammar
        self._slot = slot

    def advance(self, token: int) -> bool:
        return token in self._grammar.allowed

    def forced(self, previous: int | None, masks: MaskRows) -> Sequence[int]:
        del previous, masks
        return ()

    def mask(self, masks: MaskRows, ends: Sequence[int]) -> int:
        """``ends`` are legal only where they are of the set: an allowed list means no more than it says."""
        del ends
        row = masks.scratch(self._slot)
        masks.fill(row, self._write, ())
        return row

    def _write(self, address: int, size: int) -> None:
        bits = self._grammar.bits
        ctypes.memset(address, 0, size)
        ctypes.memmove(address, bits, min(size, len(bits)))
