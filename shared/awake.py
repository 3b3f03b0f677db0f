"""A clock that stands still while this process does: stopped by a signal, or its event loop held up.

Silence counts only for as long as somebody listens. Who judges others by how long they have been silent takes
the time from here, and so never blames them for a pause of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TICK_S = 0.25
_LONGEST_S = 2 * TICK_S  # between ticks of a loop that runs: what is longer is a pause


class AwakeClock:
    """Seconds in which this process was awake; ``tick`` wants to be called every TICK_S."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ticked = monotonic()
        self._awake = 0.0

    def tick(self) -> None:
        self._awake, self._ticked = self.now(), self._monotonic()

    def now(self) -> float:
        return self._awake + min(self._monotonic() - self._ticked, _LONGEST_S)
