"""Automata that are on the device as a whole: transitions, and the mask of every state.

A row that obeys such an automaton needs nothing of the host from one token to the next: the kernel ``advance`` moves
its state, and a table says which row of the mask pool belongs to it. All tensors keep their addresses, because captured
graphs hold them; what is written into them is ordered by the stream, so steps under way still see what was there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.kernels.automata import Automata, AutomataArrays
from gpu_worker.kernels.masks import FREE

_MOST_STATES = 1024  # of one automaton: building their masks takes some 20 ms
_TABLE_ENTRIES = 1 << 18  # 1 MiB
_TRANSITIONS = 1 << 22  # 8 MiB
_AUTOMATA = 1024

Ends = tuple[int, ...]
InUse = Callable[[], Collection[Automaton]]


class Place(NamedTuple):
    """Where a row's automaton is: its index, and where the masks of its states begin in the table.

    ``ending`` are those of states where the text may end and the row's ends are legal there, ``going_on`` those for
    as long as they are not.
    """

    automaton: int
    ending: int
    going_on: int


@dataclass(eq=False)
class _Held:
    """One automaton on the device."""

    index: int
    bases: dict[Ends, int] = field(default_factory=dict[Ends, int])
    rows: list[int] = field(default_factory=list[int])  # of the mask pool


class Residents:
    """The automata on the device, those not used for longest leaving first."""

    def __init__(self, masks: MaskPool, device: torch.device) -> None:
        self._masks = masks
        self._device = device
        self._automata = Automata(device, _TRANSITIONS, _AUTOMATA)
        self._held: OrderedDict[Automaton, _Held] = OrderedDict()
        self._ranges = Ranges(_TABLE_ENTRIES)
        self.table: Tensor = torch.full((_TABLE_ENTRIES,), FREE, dtype=torch.int32, device=device)

    @property
    def arrays(self) -> AutomataArrays:
        """What the kernel ``advance`` reads."""
        return self._automata.arrays

    def enter(self, automaton: Automaton, ends: Sequence[int], in_use: InUse) -> Place | None:
        """Put an automaton on the device, if it is not there. None if it is too large, or others leave no room.

        Those ``in_use`` stay; it is asked only where somebody has to leave.
        """
        if automaton.num_states > _MOST_STATES:
            return None
        held = self._held.get(automaton)
        if held is None:
            while not self._automata.fits(automaton.tables):
                if not self._evict(automaton, in_use):
                    return None
            held = self._held[automaton] = _Held(self._automata.add(automaton.tables))
        self._held.move_to_end(automaton)
        ending, going_on = (self._base(automaton, held, kind, in_use) for kind in (tuple(ends), ()))
        return None if ending is None or going_on is None else Place(held.index, ending, going_on)

    def _base(self, automaton: Automaton, held: _Held, ends: Ends, in_use: InUse) -> int | None:
        base = held.bases.get(ends)
        if base is not None:
            return base
        while (rows := self._masks.hold(automaton, ends)) is None:
            if not self._evict(automaton, in_use):
                return None
        while (base := self._ranges.take(len(rows))) is None:
            if not self._evict(automaton, in_use):
                self._masks.let_go(rows)
                return None
        self.table[base : base + len(rows)] = torch.tensor(rows, dtype=torch.int32).to(self._device)
        held.bases[ends] = base
        held.rows += rows
        return base

    def _evict(self, wanted: Automaton, in_use: InUse) -> bool:
        """Take the automaton off that was not used for longest. False if all are in use."""
        kept = {wanted, *in_use()}
        for automaton, held in self._held.items():
            if automaton not in kept:
                del self._held[automaton]
                self._automata.remove(held.index)
                self._masks.let_go(held.rows)
                for base in held.bases.values():
                    self._ranges.give(base)
                return True
        return False


class Ranges:
    """Room handed out in ranges: first fit, neighbours joined when they come back."""

    def __init__(self, size: int) -> None:
        self._free: list[tuple[int, int]] = [(0, size)]  # begin and end, in order
        self._taken: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """Where ``size`` entries begin; None if there is no such range."""
        for place, (begin, end) in enumerate(self._free):
            if end - begin >= size:
                self._free[place : place + 1] = [(begin + size, end)] if end - begin > size else []
                self._taken[begin] = begin + size
                return begin
        return None

    def give(self, begin: int) -> None:
        """A range comes back."""
        ranges = sorted([*self._free, (begin, self._taken.pop(begin))])
        joined = [ranges[0]]
        for start, end in ranges[1:]:
            if start == joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self._free = joined
