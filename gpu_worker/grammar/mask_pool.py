"""Token masks on the device: rows of bits, kept by what they allow, the least recently used ones replaced.

Rows of automaton states are remembered and shared by content: in a JSON schema most states inside strings allow the
same tokens. The first rows are scratch, for grammars whose masks are computed anew at every step: written in host
memory, and sent to the device before their next use.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker.grammar.automaton import Automaton
from gpu_worker.kernels.masks import FREE, MaskKernels
from shared.grammar import DEAD

_ROW_BYTES_IN_ALL = 32 * 2**20
_MOST_STATES = 1 << 16  # remembered: many states share a row
_AT_ONCE = 256  # rows that one launch builds


class _Key(NamedTuple):
    automaton: Automaton  # by identity
    state: int
    ends: tuple[int, ...]


class MaskPool:
    """Rows int32 [M, ceil(V / 32)], the first ``scratch_rows`` of them scratch."""

    def __init__(self, kernels: MaskKernels, vocab_size: int, scratch_rows: int, device: torch.device) -> None:
        words = -(-vocab_size // 32)
        kept = max(2 * scratch_rows, min(4096, _ROW_BYTES_IN_ALL // (4 * words)))
        self.kernels = kernels
        self._words = words
        self._scratch_rows = scratch_rows
        self.rows: Tensor = torch.zeros((scratch_rows + kept, words), dtype=torch.int32, device=device)
        on_host = torch.device(device).type == "cpu"
        self._host = (
            self.rows
            if on_host
            else torch.zeros((scratch_rows, words), dtype=torch.int32, pin_memory=device.type == "cuda")
        )
        self._unsent: set[int] = set()  # scratch rows that the device does not have yet
        self._free = list(range(scratch_rows + kept - 1, scratch_rows - 1, -1))
        self._row_of: OrderedDict[_Key, int] = OrderedDict()
        self._keys_of: dict[Automaton, set[_Key]] = {}
        self._by_content: dict[bytes, int] = {}
        self._content: dict[int, bytes] = {}
        self._users: dict[int, int] = {}  # keys and holders of each row
        self._held: Counter[int] = Counter()
        self._most_held = kept // 2
        self._sole: dict[int, int | None] = {}
        self.built = 0
        self.hits = 0

    def apply(self, logits: Tensor, rows: Sequence[int]) -> None:
        """Set the logits [R, V] of what is not allowed to minus infinity; FREE leaves a row as it is."""
        self.send()
        index = torch.tensor(rows, dtype=torch.int32, device=logits.device)
        self.kernels.apply(logits, self.rows, index)

    def of_state(self, automaton: Automaton, state: int, ends: Sequence[int]) -> int:
        """The row of a state's legal tokens, with the tokens ``ends`` besides."""
        key = _Key(automaton, state, tuple(ends))
        row = self._row_of.get(key)
        if row is not None:
            self._row_of.move_to_end(key)
            self.hits += 1
            return row
        self._make_room(1)
        row = self._built([key])[0]
        self._remember(key, row)
        return row

    def hold(self, automaton: Automaton, ends: Sequence[int]) -> list[int] | None:
        """The rows of all states, FREE for the dead one; they stay until they are let go.

        ``ends`` are legal besides where the text may end. None where there is no room: others need some rows, too.
        """
        rows = [FREE] * automaton.num_states
        missing: list[_Key] = []
        for state in range(automaton.num_states):
            if state == DEAD:
                continue
            key = _Key(automaton, state, tuple(ends) if automaton.is_accepting(state) else ())
            row = self._row_of.get(key)
            if row is None:
                missing.append(key)
            else:
                self._hold(row)
                rows[state] = row
        for at in range(0, len(missing), _AT_ONCE):
            keys = missing[at : at + _AT_ONCE]
            if len(self._held) > self._most_held or not self._make_room(len(keys)):
                self.let_go(rows)
                return None
            for key, row in zip(keys, self._built(keys), strict=True):
                self._remember(key, row)
                self._hold(row)
                rows[key.state] = row
        return rows

    def let_go(self, rows: Iterable[int]) -> None:
        """Rows that were held need not stay any longer; FREE ones do not count."""
        for row in rows:
            if row != FREE:
                self._held[row] -= 1
                if not self._held[row]:
                    del self._held[row]
                self._give_up(row)

    def sole(self, row: int) -> int | None:
        """The token of a row that has only one."""
        return self._sole[row] if row >= self._scratch_rows else _sole_token(self._host[row].numpy())

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
            self._unsent.add(row)

    def send(self) -> None:
        """Send the scratch rows that were filled. A batch row fills its own only after its last draw was seen."""
        for row in self._unsent:
            self.rows[row].copy_(self._host[row], non_blocking=True)
        self._unsent.clear()

    def forget(self, automaton: Automaton) -> None:
        """Nobody will ask for this automaton any more."""
        for key in tuple(self._keys_of.get(automaton, ())):
            self._drop(key)

    def _make_room(self, count: int) -> bool:
        """Forget the least recently used states until there is room for so many more. False if there is not enough."""
        while self._row_of and (len(self._free) < count or len(self._row_of) + count > _MOST_STATES):
            self._drop(next(iter(self._row_of)))
        return len(self._free) >= count

    def _built(self, keys: Sequence[_Key]) -> list[int]:
        """Rows for states of one automaton; older rows with the same content where there are some."""
        rows = [self._free.pop() for _ in keys]
        self.built += len(keys)
        self.kernels.build(self.rows, rows, [key.state for key in keys], keys[0].automaton.tables)
        for row, key in zip(rows, keys, strict=True):
            _allow(self.rows[row], key.ends)
        contents = self.rows[rows].cpu().numpy()
        return [self._shared(row, bits) for row, bits in zip(rows, contents, strict=True)]

    def _shared(self, row: int, bits: NDArray[np.int32]) -> int:
        """An older row with the same content, if there is one."""
        digest = hashlib.blake2b(bits.tobytes(), digest_size=16).digest()
        older = self._by_content.get(digest)
        if older is not None:
            self._free.append(row)
            return older
        self._by_content[digest] = row
        self._content[row] = digest
        self._sole[row] = _sole_token(bits)
        return row

    def _remember(self, key: _Key, row: int) -> None:
        self._row_of[key] = row
        self._keys_of.setdefault(key.automaton, set()).add(key)
        self._users[row] = self._users.get(row, 0) + 1

    def _hold(self, row: int) -> None:
        self._held[row] += 1
        self._users[row] += 1

    def _drop(self, key: _Key) -> None:
        row = self._row_of.pop(key)
        keys = self._keys_of[key.automaton]
        keys.remove(key)
        if not keys:
            del self._keys_of[key.automaton]
        self._give_up(row)

    def _give_up(self, row: int) -> None:
        self._users[row] -= 1
        if not self._users[row]:
            del self._users[row]
            del self._by_content[self._content.pop(row)]
            del self._sole[row]
            self._free.append(row)


def _sole_token(bits: NDArray[np.int32]) -> int | None:
    """The only bit of a row [W] that is set."""
    words = np.flatnonzero(bits)
    if len(words) != 1:
        return None
    word = int(bits[words[0]]) & 0xFFFFFFFF
    return int(words[0]) * 32 + word.bit_length() - 1 if word & (word - 1) == 0 else None


def _allow(words: Tensor, tokens: Sequence[int]) -> None:
    for token in tokens:
        words[token // 32] |= _bit(token)


def _bit(token: int) -> int:
    """The token's bit of its word, as a signed number of 32 bits."""
    bit = 1 << (token % 32)
    return bit - (1 << 32) if bit >> 31 else bit
