"""How many requests wait for their turn, as one front door can tell: its own it counts, the others' the scheduler does.

The scheduler says how many wait in all, twice a second. What was one's own then is subtracted, what is one's own
now is added: with one front door there is no delay, with several only what the others did lately is missing, and the
scheduler itself counts right. Pure: time is an argument, in unix seconds as in pulses.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import NamedTuple

_SAMPLE_S = 0.02  # history's grain
_KEPT_S = 10.0  # and length


class _Sample(NamedTuple):
    at: float
    waiting: int
    ended: int


class Waiting:
    """One's own requests that have not started, and whose they are."""

    def __init__(self) -> None:
        self._tenants: dict[int, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tenants)

    def add(self, id: int, tenant: str) -> None:
        """A request waits from now on."""
        self._tenants[id] = tenant
        self._counts[tenant] += 1

    def discard(self, id: int) -> None:
        """It does no longer; nothing happens if it did not."""
        tenant = self._tenants.pop(id, None)
        if tenant is not None:
            self._counts[tenant] -= 1
            if not self._counts[tenant]:
                del self._counts[tenant]

    def is_modest(self, tenant: str) -> bool:
        """Somebody else has more than this tenant would with one more: the scheduler may refuse theirs instead."""
        return self._counts[tenant] + 1 < max(self._counts.values(), default=0)


class Backlog:
    """What waits, and how fast requests end."""

    def __init__(self) -> None:
        self._history: deque[_Sample] = deque([_Sample(0.0, 0, 0)])  # the last one is what holds now
        self._others = 0
        self._heard_at = 0.0

    def note(self, waiting: int, ended: int, now: float) -> None:
        """So many of one's own wait now; so many have been served, ever."""
        history = self._history
        if len(history) > 1 and now - history[-2].at < _SAMPLE_S:
            history.pop()
        history.append(_Sample(now, waiting, ended))
        while len(history) > 2 and history[1].at < now - _KEPT_S:
            history.popleft()

    def hear(self, waiting: int, at: float) -> None:
        """The scheduler said at ``at`` that so many wait in all."""
        if at == self._heard_at:
            return
        self._heard_at = at
        own = next((sample.waiting for sample in reversed(self._history) if sample.at <= at), 0)
        self._others = max(0, waiting - own)

    @property
    def waiting(self) -> int:
        """How many wait in all."""
        return self._history[-1].waiting + self._others

    def patience_s(self, now: float, least: int, most: int) -> int:
        """After how many seconds half of what waits now will have been served, at the rate of late."""
        first, last = self._history[0], self._history[-1]
        served = last.ended - first.ended
        if not served:
            return least if not last.waiting else most
        rate = served / max(_SAMPLE_S, now - max(first.at, now - _KEPT_S))
        return min(most, max(least, math.ceil(last.waiting / rate / 2)))
