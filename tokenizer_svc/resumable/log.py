"""Where logs are kept, as the rest of the package sees it; service.py does it over the streams' server."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from tokenizer_svc.resumable.entries import Entry, Owner, Place, Placed


class Appended(enum.Enum):
    """What became of an entry."""

    DONE = enum.auto()
    FENCED = enum.auto()  # another process writes this log now, or a client had it deleted
    LOST = enum.auto()  # the server does not have what was there before: it must be written again


class Logs(Protocol):
    """The logs of all answers.

    What a writer does (append, restore, own, close) waits for as long as the server is away or full. The rest raises
    ApiError 503 then.
    """

    async def read(self, id: int, after: Place) -> list[Placed]:
        """What is beyond a place, all of it; nothing where there is no such log."""
        ...

    async def append(self, id: int, placed: Placed, length: int) -> Appended:
        """Add an entry to a log that has ``length`` entries with it."""
        ...

    async def claim(self, id: int, placed: Placed) -> bool:
        """Add the first entry of a term; False where the log is gone, or another process came first."""
        ...

    async def restore(self, id: int, entries: Sequence[Placed], seconds: int) -> None:
        """Write a whole log again."""
        ...

    async def close(self, id: int, seconds: int) -> None:
        """The log is complete: keep it for some time, and let nobody take it over."""
        ...

    async def delete(self, id: int, placed: Placed) -> None:
        """Leave nothing but this entry, and that only for its writer to find."""
        ...

    async def prolong(self, ids: Sequence[int], seconds: int) -> None:
        """Keep logs for some time from now on."""
        ...

    async def follow(self, cursors: Mapping[int, Place]) -> dict[int, list[Placed]]:
        """Wait a moment for what is beyond the cursors."""
        ...

    def doubt(self) -> None:
        """Have it looked soon whether the server lost what was written."""
        ...

    async def missing(self, ids: Sequence[int]) -> set[int]:
        """Which of these logs are not there."""
        ...

    async def own(self, id: int, owner: Owner) -> None:
        """Note who writes a log."""
        ...

    async def owned(self) -> dict[int, Owner]:
        """Every log that is being written, and by whom."""
        ...

    async def note_readers(self, ids: Sequence[int], now: float) -> None:
        """Somebody reads these logs, away from their writers."""
        ...

    async def last_read(self, id: int) -> float:
        """When that was noted last, in unix seconds."""
        ...


def as_entries(placed: Sequence[Placed]) -> list[Entry]:
    return [each.entry for each in placed]
