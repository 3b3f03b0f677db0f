"""How long to wait before a dead process is started again. Pure: the caller measures and sleeps."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 10.0
STEADY_S = 60.0  # a process that lived this long starts with a clean record


class Backoff:
    """The record of one process's deaths."""

    def __init__(self) -> None:
        self.deaths = 0

    def after(self, lived: float) -> float:
        """Seconds to wait after a death, ``lived`` seconds after the start: doubling up to a bound."""
        if lived >= STEADY_S:
            self.deaths = 0
        delay = min(FIRST_S * 2**self.deaths, LONGEST_S)
        self.deaths += 1
        return delay
