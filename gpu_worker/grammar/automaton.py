"""A compiled automaton at work: transitions, chains of states with one way on, and where it may end.

Knows nothing of tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.grammar import DEAD, START, Dfa, Tables, tables

_BRANCH = -1


class Part(NamedTuple):
    """A generated part of a template."""

    place: int
    budget: int  # tokens it may have; 0: no bound
    following: bytes  # the fixed text after it


class Automaton:
    """One automaton over UTF-8 bytes, shared by all rows that obey it."""

    def __init__(self, dfa: Dfa) -> None:
        self.tables: Tables = tables(dfa)
        classes, transitions, accepting = self.tables
        self._classes = classes.tolist()
        self._next = memoryview(transitions.tobytes()).cast("H")
        self._width = dfa.num_classes
        sizes = np.bincount(classes, minlength=dfa.num_classes)
        exits = (transitions != DEAD) @ sizes  # bytes that lead on
        self._accepting = accepting.tolist()
        self._terminal = (accepting & (exits == 0)).tolist()
        self._only = _only_bytes(classes, transitions, accepting, exits).tolist()
        segments = dfa.segments
        self._labels: list[int] | None = None if segments is None else np.frombuffer(segments.labels, "<i2").tolist()
        self._parts = (
            ()
            if segments is None
            else tuple(Part(i, b, f) for i, (b, f) in enumerate(zip(segments.budgets, segments.following, strict=True)))
        )

    @property
    def num_states(self) -> int:
        return len(self._accepting)

    @property
    def nbytes(self) -> int:
        """Memory it takes, roughly."""
        return self.tables.transitions.nbytes + 100 * self.num_states

    def walk(self, data: bytes, state: int = START) -> int:
        """The state after ``data``; DEAD where it is refused."""
        classes, following, width = self._classes, self._next, self._width
        for byte in data:
            state = following[state * width + classes[byte]]
            if state == DEAD:
                break
        return state

    def is_accepting(self, state: int) -> bool:
        """May the text end here?"""
        return self._accepting[state]

    def is_terminal(self, state: int) -> bool:
        """Must the text end here?"""
        return self._terminal[state]

    def must_go_on(self, state: int) -> bool:
        """Is there one way on, and no end? Then :meth:`chain` says which."""
        return self._only[state] != _BRANCH

    def chain(self, state: int) -> bytes:
        """The bytes that must come next: up to a state with a choice, or one where the text may end."""
        run = bytearray()
        classes, following, width, only = self._classes, self._next, self._width, self._only
        while (byte := only[state]) != _BRANCH:
            run.append(byte)
            state = following[state * width + classes[byte]]
        return bytes(run)

    def part(self, state: int) -> Part | None:
        """The generated part of a template that a state is in; None in fixed text and where there is no template."""
        if self._labels is None:
            return None
        label = self._labels[state]
        return self._parts[label] if label >= 0 else None


def _only_bytes(
    classes: NDArray[np.uint8], transitions: NDArray[np.uint16], accepting: NDArray[np.bool_], exits: NDArray[np.int64]
) -> NDArray[np.int16]:
    """int16 [S]: the one byte that leads on from a state that must go on, _BRANCH for every other state."""
    only = np.full(len(accepting), _BRANCH, np.int16)
    single = np.flatnonzero((exits == 1) & ~accepting)
    byte_of = np.zeros(transitions.shape[1], np.int16)
    byte_of[classes] = np.arange(256, dtype=np.int16)  # right where a class has a single byte, and used only there
    only[single] = byte_of[(transitions[single] != DEAD).argmax(axis=1)]
    return only
