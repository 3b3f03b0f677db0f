"""Until when each live request is wanted. Knows nothing of what a request is or does."""

from __future__ import annotations

import heapq
from collections.abc import Container

_SLACK = 64  # entries of ended requests that are kept besides as many as there are others


class Deadlines:
    """Deadlines in unix seconds, by request id. O(log n) each; ``live`` says who has not ended."""

    def __init__(self, live: Container[int]) -> None:
        self._live = live
        self._heap: list[tuple[float, int]] = []
        self._most = _SLACK

    def add(self, id: int, deadline: float) -> None:
        """Watch a request; one that ends meanwhile is forgotten in time."""
        if len(self._heap) >= self._most:
            self._heap = [entry for entry in self._heap if entry[1] in self._live]
            heapq.heapify(self._heap)
            self._most = 2 * len(self._heap) + _SLACK
        heapq.heappush(self._heap, (deadline, id))

    @property
    def next(self) -> float | None:
        """The first deadline that a live request has."""
        while self._heap and self._heap[0][1] not in self._live:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[int]:
        """Take out the live requests whose deadline has come."""
        found: list[int] = []
        while (deadline := self.next) is not None and deadline <= now:
            found.append(heapq.heappop(self._heap)[1])
        return found
