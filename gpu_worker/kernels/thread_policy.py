"""How many threads a forward pass gets, when other programs want the same cores.

Threads of a team wait for each other a few hundred times per pass, so one of them without a core holds up
all: on two cores beside two to three busy programs a decode step took 130 to 770 ms in the median on two threads, 72
with the threads bound to cores, and 28 on as many threads as this policy gives.
Waiting threads spin, so on free cores their processor time equals the time that passed; what is missing from it
is what other programs took. Knows nothing of torch or of clocks.
"""

from __future__ import annotations

_WINDOW_S = 0.1  # judge over at least so long: a team that has slept takes a moment to be whole
_SHORTEST_PAUSE_S = 0.25  # before trying one thread more again
_LONGEST_PAUSE_S = 32.0


class ThreadPolicy:
    """Fewer threads where half a core or more is missing twice in a row; from time to time a try with one more.

    Once may be a burst, such as grammars being compiled: over before fewer threads would help.
    """

    def __init__(self, most: int) -> None:
        self.count = most
        self._most = most
        self._passed = 0.0
        self._used = 0.0
        self._pause = _SHORTEST_PAUSE_S
        self._next_try = 0.0
        self._is_try = False
        self._was_short = False

    def observe(self, passed: float, used: float, now: float) -> None:
        """A pass took ``passed`` seconds and ``used`` processor seconds in all threads; ``now`` is any clock."""
        self._passed += passed
        self._used += used
        if self._passed < _WINDOW_S:
            return
        missing = self.count - self._used / self._passed
        self._passed = self._used = 0.0
        again, self._was_short = self._was_short, missing >= 0.5
        if missing >= 0.5 and self.count > 1 and (again or self._is_try):
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_S) if self._is_try else _SHORTEST_PAUSE_S
            self.count = max(1, self.count - max(1, round(missing)))
            self._next_try = now + self._pause
            self._is_try = False
        elif self.count < self._most and now >= self._next_try:
            self.count += 1
            self._is_try = True
            self._next_try = now + _SHORTEST_PAUSE_S
        elif self._is_try and now >= self._next_try:
            self._is_try = False  # it has lasted: the next shortage starts with a short pause
