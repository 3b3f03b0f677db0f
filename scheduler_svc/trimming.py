"""How far each stream may be trimmed: nothing that a reader, or a restart, still needs. Pure.

Entry ids are those of the streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from shared.cursors import START, entry_key


class Trimming:
    """What is still needed of the plans and of the step log."""

    def __init__(self) -> None:
        self._plans: deque[tuple[int, str]] = deque()  # (seq, entry id) of plans not acknowledged
        self._since: dict[int, str] = {}  # live request: a step log entry before its first token

    def opened(self) -> None:
        """A new epoch: sequence numbers start again."""
        self._plans.clear()

    def planned(self, seq: int, entry_id: str) -> None:
        self._plans.append((seq, entry_id))

    def acknowledged(self, seq: int) -> str | None:
        """The last plan that the worker has applied, None if there is nothing new to forget."""
        last = None
        while self._plans and self._plans[0][0] <= seq:
            last = self._plans.popleft()[1]
        return last

    def started(self, id: int, cursor: str) -> None:
        """A request's tokens come after ``cursor``; the first one counts."""
        self._since.setdefault(id, cursor)

    def ended(self, id: int) -> None:
        self._since.pop(id, None)

    def steps(self, cursor: str, watermarks: Iterable[str]) -> str:
        """The oldest entry of the step log that somebody needs: we, a live request, another reader."""
        return min((cursor, *self._since.values(), *watermarks), key=entry_key, default=START)
