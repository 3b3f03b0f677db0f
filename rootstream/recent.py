"""How much came in the last seconds: the speed of something long, as it is now. Pure: times are arguments."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 15.0


class Recent:
    """Amounts and when they came."""

    def __init__(self) -> None:
        self._came: deque[tuple[float, int]] = deque()

    def add(self, amount: int, now: float) -> None:
        self._came.append((now, amount))

    def rate(self, now: float) -> float:
        """Per second, lately."""
        while len(self._came) > 1 and self._came[0][0] < now - _WINDOW_S:
            self._came.popleft()
        if not self._came:
            return 0.0
        return sum(amount for _, amount in self._came) / max(now - self._came[0][0], 1.0)
