"""Whether a main loop moves: the rounds it makes, how long they take, and whether one takes far too long.

Pure but for the clock of :class:`Rounds`. What is far too long is measured, not set: a slow model or a long prefill is
no hang. Knows nothing of what a round does.
"""

from __future__ import annotations

import time
from typing import NamedTuple

_SHORTEST_S = 1.0  # no round is called stuck before
_UNKNOWN_S = 10.0  # of a size never seen before: kernels may have to be compiled for it
_MULTIPLE = 4
_HOPELESS = 16
_WINDOW_S = 60.0
_LONGEST_GAP_S = 0.5  # between looks; what was longer, nobody was awake

WAITS = 0
"""Size of a round in which one waits for others: however long that takes says nothing of one's own work."""


class _Longest:
    """The longest of the last one to two minutes."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._current = self._before = 0.0

    def add(self, seconds: float, now: float) -> None:
        if now - self._began > _WINDOW_S:
            self._began, self._before, self._current = now, self._current, 0.0
        self._current = max(self._current, seconds)

    @property
    def value(self) -> float:
        return max(self._before, self._current)


class Pace:
    """How long rounds normally take, by the power of two of their size."""

    def __init__(self) -> None:
        self._longest: dict[int, _Longest] = {}

    def took(self, size: int, seconds: float, now: float) -> None:
        self._longest.setdefault(size.bit_length(), _Longest()).add(seconds, now)

    def limit(self, size: int) -> float:
        """Seconds after which a round of this size is stuck."""
        known = self._longest.get(size.bit_length())
        if known is not None:
            return max(_SHORTEST_S, _MULTIPLE * known.value)
        smaller = [(bits, longest) for bits, longest in self._longest.items() if bits < size.bit_length()]
        if not smaller:
            return _UNKNOWN_S
        bits, longest = max(smaller)
        return max(_UNKNOWN_S, _MULTIPLE * longest.value * 2.0 ** (size.bit_length() - bits))


class Round(NamedTuple):
    """What a loop is at."""

    number: int
    size: int


class Rounds:
    """The rounds of one loop, which may run in another thread than those who look at it."""

    def __init__(self) -> None:
        self.current: Round | None = None  # None: it waits for work
        self.pace = Pace()
        self._number = 0
        self._began = 0.0

    def begin(self, size: int = 1) -> None:
        """A round begins, and the one before has ended; ``size`` is a measure of its work, WAITS one of none."""
        self.end()
        self._number += 1
        self._began = time.monotonic()
        self.current = Round(self._number, size)

    def end(self) -> None:
        """No work is left."""
        if self.current is not None:
            now = time.monotonic()
            self.pace.took(self.current.size, now - self._began, now)
            self.current = None


class Stuck(NamedTuple):
    """A round that takes far too long."""

    seconds: float
    hopeless: bool  # it will not come to an end any more


class Watch:
    """Looks at a loop again and again, and counts only the time in which it looked."""

    def __init__(self, rounds: Rounds, patience: float) -> None:
        """``patience``: the least seconds after which a round is given up."""
        self._rounds = rounds
        self._patience = patience
        self._round: Round | None = None
        self._seconds = 0.0
        self._looked = float("-inf")

    def look(self, now: float, *, counts: bool = True) -> Stuck | None:
        """None while all is well. ``counts``: False where something else is known to hold it up."""
        current, gap = self._rounds.current, min(now - self._looked, _LONGEST_GAP_S) if counts else 0.0
        self._looked = now
        if current is None or current != self._round:
            self._round, self._seconds = current, 0.0
            return None
        self._seconds += gap
        limit = self._rounds.pace.limit(current.size)
        if self._seconds < limit:
            return None
        hopeless = self._seconds > max(self._patience, limit * _HOPELESS / _MULTIPLE)
        return Stuck(self._seconds, hopeless)
