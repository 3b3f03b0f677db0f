"""How far each stream may be trimmed: nothing that a reader, or a restart, still needs. Pure.

Entry ids are those of the streams.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from shared.cursors import entry_key

_GRACE_S = 60.0  # how long what a reader still needed is kept after its last sign of life


class _Watermark(NamedTuple):
    entry_id: str
    at: float


class Trimming:
    """What is still needed of the plans and of the step log."""

    def __init__(self) -> None:
        self._plans: deque[tuple[int, str]] = deque()  # (seq, entry id) of plans not acknowledged
        self._since: dict[int, str] = {}  # live request: a step log entry before its first token
        self._readers: dict[str, _Watermark] = {}

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

    def needs(self, reader: str, watermark: str, now: float) -> None:
        """Another reader of the step log lives, and needs everything from ``watermark`` on."""
        self._readers[reader] = _Watermark(watermark, now)

    def steps(self, cursor: str, now: float) -> str:
        """The oldest entry of the step log that somebody needs: we, a live request, another reader."""
        self._readers = {reader: mark for reader, mark in self._readers.items() if now - mark.at < _GRACE_S}
        marks = [mark.entry_id for mark in self._readers.values()]
        return min([cursor, *self._since.values(), *marks], key=entry_key)
