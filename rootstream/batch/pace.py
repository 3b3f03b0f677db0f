"""How many requests may be under way, and when the next one may go. Pure: times are arguments.

A server that refuses because it is full is asked for less at once, and not before it says so; while it does not
refuse, it is asked for a little more with each answer, up to a bound. This is how TCP shares a line (additive increase,
multiplicative decrease).
"""

from __future__ import annotations

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


class Pace:
    """The pace towards one server."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.not_before = 0.0
        self._refusals = 0  # one after the other

    def may_go(self, under_way: int, now: float) -> bool:
        return under_way < int(self.limit) and now >= self.not_before

    def answered(self) -> None:
        """A request was served."""
        self._refusals = 0
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, under_way: int, now: float, after_s: float | None) -> None:
        """A request was refused, or nobody was there; ``after_s`` is what the server says of coming back."""
        if now >= self.not_before:  # the refusals of one moment count once
            self._refusals += 1
            self.limit = max(1.0, min(self.limit, under_way) / 2)
        pause = FIRST_PAUSE_S * 2.0 ** min(self._refusals - 1, 10) if after_s is None else after_s
        self.not_before = max(self.not_before, now + min(max(pause, 0.0), LONGEST_PAUSE_S))
