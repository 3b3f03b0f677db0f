"""What the worker has been told and not yet said that it did: chunks to execute, rows to let go of.

Knows nothing of pages or of the queue.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from scheduler_svc.request import Request

_CHUNK_PLANS = 2  # outstanding at most: one being executed, one at hand


class Reached(NamedTuple):
    """Whom an acknowledgement concerns."""

    ended: list[Request]  # their chunks are executed: they can be released
    returning: list[Request]  # preempted, and the worker has let go of them


class Unacknowledged:
    """The plans of one epoch that the worker has not applied, as far as anybody waits for that."""

    def __init__(self) -> None:
        self.seq = 0  # the last plan that the worker is known to have applied
        self.ending: list[Request] = []  # ended, but the worker has chunks of them to execute
        self.preempted: list[Request] = []  # released, but the worker may not know yet
        self._chunk_plans: deque[int] = deque()

    @property
    def chunk_plans(self) -> int:
        """How many plans with chunks are outstanding."""
        return len(self._chunk_plans)

    @property
    def is_full(self) -> bool:
        """The worker has as many chunks before it as it should."""
        return len(self._chunk_plans) >= _CHUNK_PLANS

    @property
    def empty(self) -> bool:
        return not (self.ending or self.preempted or self._chunk_plans)

    def has_chunks_of(self, row: Request) -> bool:
        return row.chunk_seq > self.seq

    def planned_chunks(self, seq: int) -> None:
        """A plan carries chunks."""
        self._chunk_plans.append(seq)

    def reach(self, seq: int) -> Reached:
        """The worker has applied the plans up to ``seq`` and executed their chunks."""
        if seq <= self.seq:
            return Reached([], [])
        self.seq = seq
        while self._chunk_plans and self._chunk_plans[0] <= seq:
            self._chunk_plans.popleft()
        ended = [request for request in self.ending if request.chunk_seq <= seq]
        returning = [request for request in self.preempted if request.release_seq <= seq]
        if ended:
            self.ending = [request for request in self.ending if request.chunk_seq > seq]
        if returning:
            self.preempted = [request for request in self.preempted if request.release_seq > seq]
        return Reached(ended, returning)
