"""Several byte automata in one place on a device, known by index: what the mask kernels read.

Knows nothing of requests or of mask rows; whoever puts an automaton in takes it out again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.grammar import Tables

_LEAST = 4096  # transitions


class AutomataArrays(NamedTuple):
    """A automata on the device. The transition of automaton a from state s on byte b is
    ``transitions[offsets[a] + s * num_classes[a] + classes[a, b]]``, to be read as an unsigned number.
    """

    transitions: Tensor  # int16, flat
    offsets: Tensor  # int64 [A]
    num_classes: Tensor  # int32 [A]
    classes: Tensor  # uint8 [A, 256]


def single(tables: Tables, device: torch.device) -> AutomataArrays:
    """One automaton alone, as number 0."""
    automata = Automata(device, room=tables.transitions.size)
    automata.add(tables)
    return automata.arrays


class Automata:
    """Automata put in one after the other; when there is no room at the end, those still in use move together.

    The arrays stay where they are, as captured graphs need it, for as long as what is put in :meth:`fits`.
    """

    def __init__(self, device: torch.device, room: int = _LEAST, slots: int = 1) -> None:
        """With room for so many transitions, of so many automata, to begin with."""
        self._device = device
        self._tables: list[Tables | None] = []
        self._free: list[int] = []
        self._used = 0  # transitions
        self.arrays = AutomataArrays(
            transitions=torch.zeros(room, dtype=torch.int16, device=device),
            offsets=torch.zeros(slots, dtype=torch.int64, device=device),
            num_classes=torch.zeros(slots, dtype=torch.int32, device=device),
            classes=torch.zeros(slots, 256, dtype=torch.uint8, device=device),
        )

    def __len__(self) -> int:
        return len(self._tables) - len(self._free)

    def tables(self, automaton: int) -> Tables:
        """What was added under this index. Raises LookupError where there is nothing."""
        tables = self._tables[automaton] if 0 <= automaton < len(self._tables) else None
        if tables is None:
            raise LookupError(f"there is no automaton {automaton}")
        return tables

    def fits(self, tables: Tables) -> bool:
        """Whether this automaton has room beside those in use, without new arrays."""
        arrays = self.arrays
        size = sum(used.transitions.size for used in self._tables if used is not None) + tables.transitions.size
        return size <= len(arrays.transitions) and len(self) < len(arrays.offsets)

    def add(self, tables: Tables) -> int:
        """Put an automaton on the device and return its index."""
        if self._free:
            index = self._free.pop()
            self._tables[index] = tables
        else:
            index = len(self._tables)
            self._tables.append(tables)
        fits = self._used + tables.transitions.size <= len(self.arrays.transitions)
        if fits and index < len(self.arrays.offsets):
            self._place(index, tables)
        else:
            self._move()
        return index

    def remove(self, automaton: int) -> None:
        """Its index may be given to another one from now on. Raises LookupError where there is nothing."""
        self.tables(automaton)
        self._tables[automaton] = None
        self._free.append(automaton)

    def _place(self, index: int, tables: Tables) -> None:
        arrays, size = self.arrays, tables.transitions.size
        flat = np.ascontiguousarray(tables.transitions).reshape(-1).view(np.int16)
        arrays.transitions[self._used : self._used + size] = torch.from_numpy(flat.copy()).to(self._device)
        arrays.offsets[index] = self._used
        arrays.num_classes[index] = tables.transitions.shape[1]
        arrays.classes[index] = torch.from_numpy(tables.classes.copy()).to(self._device)
        self._used += size

    def _move(self) -> None:
        """Without what was removed; in new arrays, twice as large as what is in use, where the old ones are too small.

        Everything is written anew from the host, in the order of the stream: what runs there still sees the old places.
        """
        in_use = [(index, tables) for index, tables in enumerate(self._tables) if tables is not None]
        size, old = sum(tables.transitions.size for _, tables in in_use), self.arrays
        if size > len(old.transitions) or len(self._tables) > len(old.offsets):
            slots = 2 * len(self._tables)
            self.arrays = AutomataArrays(
                transitions=old.transitions.new_zeros(max(_LEAST, 2 * size)),
                offsets=old.offsets.new_zeros(slots),
                num_classes=old.num_classes.new_zeros(slots),
                classes=old.classes.new_zeros(slots, 256),
            )
        self._used = 0
        for index, tables in in_use:
            self._place(index, tables)
