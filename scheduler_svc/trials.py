"""Who killed the worker: deaths are blamed on a request only if it can have been nobody else.

A row that has got a token since it was admitted is cleared: what killed the worker is taken to be something new.
Of the others each is a suspect. Suspects are admitted again one at a time, the next when the one before has got its
first token or has ended, so that the next death has one name. Rows that were cleared return before them, and new
requests wait meanwhile. Knows nothing of queues, pages or plans.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_svc.request import Request

_DEATHS = 2  # blamed on one request before it ends


def accuse(rows: Iterable[Request], *, others: bool) -> list[Request]:
    """The worker has died with these rows, and ``others`` that have ended since. Returns who did it once too often."""
    suspects: list[Request] = []
    for row in rows:
        if row.is_cleared:
            row.suspected, row.blamed, row.returns = False, 0, True
        else:
            row.suspected, row.returns = True, False
            suspects.append(row)
    if len(suspects) != 1 or others:
        return []
    [culprit] = suspects
    culprit.blamed += 1
    return suspects if culprit.blamed >= _DEATHS else []


class Trials:
    """The suspects of one epoch."""

    def __init__(self) -> None:
        self._waiting: dict[Request, None] = {}
        self._tried: Request | None = None

    @property
    def pending(self) -> bool:
        """There are suspects that have not been cleared."""
        return bool(self._waiting) or self.under_way

    @property
    def under_way(self) -> bool:
        """A suspect is a row, and has not got a token yet."""
        self._acquit()
        return self._tried is not None

    @property
    def next(self) -> Request | None:
        """Whose turn it is."""
        return next(iter(self._waiting), None)

    def add(self, request: Request) -> None:
        """It waits for its turn."""
        self._waiting[request] = None

    def starts(self, request: Request) -> None:
        """It becomes a row."""
        del self._waiting[request]
        self._tried = request

    def leaves(self, request: Request) -> None:
        """It ends, or has to make room; nothing happens if it is no suspect."""
        self._acquit()
        self._waiting.pop(request, None)
        if self._tried is request:
            self._tried = None

    def _acquit(self) -> None:
        tried = self._tried
        if tried is not None and tried.is_cleared:
            tried.suspected, tried.blamed = False, 0
            self._tried = None
