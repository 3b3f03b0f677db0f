"""Token masks on the device: rows of bits, kept by what they allow, the least recently used ones replaced.

Rows of automaton states are remembered and shared by content: in a JSON schema most states inside strings allow the
same tokens. The first rows are scratch, for grammars whose masks are computed anew at every step.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.grammar.automaton import Automaton
from gpu_worker.kernels.masks import MaskKernels

_ROW_BYTES_IN_ALL = 32 * 2**20
_MOST_STATES = 1 << 16  # remembered: many states share a row


class _Key(NamedTuple):
    automaton: Automaton  # by identity
    state: int
    ends: tuple[int, ...]


class MaskPool:
    """Rows int32 [M, ceil(V / 32)], the first ``scratch_rows`` of them scratch."""

    def __init__(self, kernels: MaskKernels, vocab_size: int, scratch_rows: int, device: torch.device) -> None:
        words = -(-vocab_size // 32)
        kept = max(2 * scratch_rows, min(4096, _ROW_BYTES_IN_ALL // (4 * words)))
        self._kernels = kernels
        self._words = words
        self._scratch_rows = scratch_rows
        self.rows: Tensor = torch.zeros((scratch_rows + kept, words), dtype=torch.int32, device=device)
        on_host = torch.device(device).type == "cpu"
        self._host = self.rows if on_host else torch.zeros((scratch_rows, words), dtype=torch.int32)
        self._free = list(range(scratch_rows + kept - 1, scratch_rows - 1, -1))
        self._row_of: OrderedDict[_Key, int] = OrderedDict()
        self._keys_of: dict[Automaton, set[_Key]] = {}
        self._by_content: dict[bytes, int] = {}
        self._content: dict[int, bytes] = {}
        self._users: dict[int, int] = {}  # keys of each row
        self._sole: dict[int, int | None] = {}
        self.built = 0
        self.hits = 0

    def apply(self, logits: Tensor, rows: Sequence[int]) -> None:
        """Set the logits [R, V] of what is not allowed to minus infinity; FREE leaves a row as it is."""
        index = torch.tensor(rows, dtype=torch.int32, device=logits.device)
        self._kernels.apply(logits, self.rows, index)

    def of_state(self, automaton: Automaton, state: int, ends: Sequence[int]) -> int:
        """The row of a state's legal tokens, with the tokens ``ends`` besides."""
        key = _Key(automaton, state, tuple(ends))
        row = self._row_of.get(key)
        if row is not None:
            self._row_of.move_to_end(key)
            self.hits += 1
            return row
        if len(self._row_of) >= _MOST_STATES:
            self._drop(next(iter(self._row_of)))
        row = self._shared(self._build(key))
        self._row_of[key] = row
        self._keys_of.setdefault(automaton, set()).add(key)
        self._users[row] = self._users.get(row, 0) + 1
        return row

    def sole(self, row: int) -> int | None:
        """The token of a row that has only one."""
        if row >= self._scratch_rows and row in self._sole:
            return self._sole[row]
        bits = self.rows[row].cpu().numpy()
        words = np.flatnonzero(bits)
        token: int | None = None
        if len(words) == 1:
            word = int(bits[words[0]]) & 0xFFFFFFFF
            if word & (word - 1) == 0:
                token = int(words[0]) * 32 + word.bit_length() - 1
        if row >= self._scratch_rows:
            self._sole[row] = token
        return token

    def scratch(self, slot: int) -> int:
        """A row for one step's use by batch row ``slot``."""
        return slot

    def fill(self, row: int, compute: Callable[[int, int], object], forbidden: Sequence[int]) -> None:
        """Let ``compute(address, bytes)`` write a row's bits, then take ``forbidden`` out of it."""
        words = self._host[row]
        compute(words.data_ptr(), 4 * self._words)
        for token in forbidden:
            words[token // 32] &= ~_bit(token)
        if self._host is not self.rows:
            self.rows[row].copy_(words)

    def forget(self, automaton: Automaton) -> None:
        """Nobody will ask for this automaton any more."""
        for key in tuple(self._keys_of.get(automaton, ())):
            self._drop(key)

    def _build(self, key: _Key) -> int:
        while not self._free:
            self._drop(next(iter(self._row_of)))
        row = self._free.pop()
        self.built += 1
        self._kernels.build(self.rows, [row], [key.state], key.automaton.tables)
        _allow(self.rows[row], key.ends)
        return row

    def _shared(self, row: int) -> int:
        """An older row with the same content, if there is one."""
        digest = hashlib.blake2b(self.rows[row].cpu().numpy().tobytes(), digest_size=16).digest()
        older = self._by_content.get(digest)
        if older is not None:
            self._free.append(row)
            return older
        self._by_content[digest] = row
        self._content[row] = digest
        return row

    def _drop(self, key: _Key) -> None:
        row = self._row_of.pop(key)
        keys = self._keys_of[key.automaton]
        keys.remove(key)
        if not keys:
            del self._keys_of[key.automaton]
        self._users[row] -= 1
        if not self._users[row]:
            del self._users[row]
            del self._by_content[self._content.pop(row)]
            self._sole.pop(row, None)
            self._free.append(row)


def _allow(words: Tensor, tokens: Sequence[int]) -> None:
    for token in tokens:
        words[token // 32] |= _bit(token)


def _bit(token: int) -> int:
    """The token's bit of its word, as a signed number of 32 bits."""
    bit = 1 << (token % 32)
    return bit - (1 << 32) if bit >> 31 else bit
