"""How long to wait before a dead process is started again. Pure: the caller measures and sleeps."""

from __future__ import annotations

AT_ONCE_S = 0.05
FIRST_S = 0.25
LONGEST_S = 10.0
STEADY_S = 3.0  # a process that served for this long starts with a clean record


class Backoff:
    """The record of one process's deaths."""

    def __init__(self) -> None:
        self.deaths = 0

    def after(self, served: float) -> float:
        """Seconds to wait after a death: none to speak of for a process that had been ready for a while, ``served``
        seconds; doubling up to a bound for one that had not.
        """
        if served >= STEADY_S:
            self.deaths = 0
            return AT_ONCE_S
        delay = min(FIRST_S * 2.0**self.deaths, LONGEST_S)
        self.deaths += 1
        return delay
