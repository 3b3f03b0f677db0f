"""One answer's log as this process has it, and who waits for more of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from tokenizer_svc.resumable.entries import BEFORE_ALL, End, Gone, Place, Placed, Record


class Missing(RuntimeError):
    """The log has gone while it was read."""


class Tail:
    """The entries of a log, in order, from the first on."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.entries: list[Placed] = []
        self.readers = 0
        self.read_at = time.monotonic()  # when somebody read last, while nobody does
        self._news = asyncio.Event()
        self._is_missing = False

    @property
    def id(self) -> int:
        return self.record.id

    @property
    def place(self) -> Place:
        """Of the last entry."""
        return self.entries[-1].place if self.entries else BEFORE_ALL

    @property
    def is_over(self) -> bool:
        return bool(self.entries) and isinstance(self.entries[-1].entry, End | Gone)

    @property
    def is_gone(self) -> bool:
        """A client had it deleted, or it got lost."""
        return self._is_missing or (bool(self.entries) and isinstance(self.entries[-1].entry, Gone))

    def push(self, entries: Sequence[Placed]) -> None:
        """Add what is new among these."""
        for placed in entries:
            if placed.place > self.place:
                self.entries.append(placed)
        self._tell()

    def miss(self) -> None:
        """Nothing more can come: whoever waits is told."""
        self._is_missing = True
        self._tell()

    async def beyond(self, count: int) -> list[Placed]:
        """All entries after the first ``count``, at least one. Raises Missing."""
        while len(self.entries) <= count:
            if self._is_missing:
                raise Missing
            await self._news.wait()
        return self.entries[count:]

    @contextmanager
    def reading(self) -> Generator[None]:
        """Somebody reads."""
        self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1
            self.read_at = time.monotonic()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
