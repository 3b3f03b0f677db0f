"""Whose grammar is compiled next: clients take turns, each in the order it asked.

Pure: values in, values out. Knows nothing of what the jobs are.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Turns(Generic[Job]):
    """Jobs waiting by client, and how many of each client are under way.

    Strictly first come first served, 64 grammars of one client would stand before the only one of another. So the
    client with the fewest under way is next, of several the one that was served longest ago; none gets more than
    ``at_once``.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: dict[str, deque[Job]] = {}  # clients in the order of their turns; none without a job
        self._under_way: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, client: str, job: Job) -> None:
        """A job at the end of its client's line."""
        self._waiting.setdefault(client, deque()).append(job)

    def take(self) -> tuple[str, Job] | None:
        """The next job and its client, under way from now on; None where no one may be served."""
        client = min(self._waiting, key=lambda each: self._under_way[each], default=None)
        if client is None or self._under_way[client] >= self._at_once:
            return None
        line = self._waiting.pop(client)
        job = line.popleft()
        if line:
            self._waiting[client] = line  # at the end
        self._under_way[client] += 1
        return client, job

    def done(self, client: str) -> None:
        """A job of this client is no longer under way."""
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]

    def drop(self, client: str, job: Job) -> bool:
        """Forget a job that still waits; whether it did."""
        line = self._waiting.get(client)
        if line is None or job not in line:
            return False
        line.remove(job)
        if not line:
            del self._waiting[client]
        return True
