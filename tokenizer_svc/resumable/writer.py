"""Writes one answer into its log as it comes. Whoever reads sees nothing that is not there."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from shared.protocol import Failed, Failure
from tokenizer_svc.accounts import account_of
from tokenizer_svc.answers import Answer
from tokenizer_svc.api_error import of_failure
from tokenizer_svc.limits import Limits
from tokenizer_svc.resumable.entries import (
    BEFORE_ALL,
    End,
    Entry,
    Owner,
    Place,
    Placed,
    Progress,
    Started,
    logged,
    size_of,
)
from tokenizer_svc.resumable.fold import fault_of
from tokenizer_svc.resumable.log import Appended, Logs
from tokenizer_svc.resumable.tail import Tail
from tokenizer_svc.timing import Timing

log = structlog.get_logger("resumable")


class Fenced(Exception):
    """Another process writes this log now, or it was deleted."""


class Writer:
    """The one that may append to a log, until it learns that another one does."""

    def __init__(self, answer: Answer, tail: Tail, logs: Logs, owner: Owner, limits: Limits) -> None:
        self.answer = answer
        self.tail = tail
        self._logs = logs
        self._owner = owner
        self._limits = limits
        self._place = tail.place
        self._is_started = any(isinstance(placed.entry, Started) for placed in tail.entries)
        self._bytes = sum(size_of(each.entry) for each in tail.entries if isinstance(each.entry, Progress))

    @property
    def is_replaced(self) -> bool:
        """Whether the log has entries of another process after the last one from here."""
        return self.tail.place > self._place

    @property
    def size(self) -> int:
        """About how many bytes the log takes."""
        return len(self.tail.record.body) + self._bytes

    async def mend(self) -> None:
        """Put the log back if it, or its end, is gone, though there may be nothing to add to it."""
        tail = self.tail
        there = await self._logs.read(tail.id, BEFORE_ALL)
        is_replaced = self.is_replaced or (bool(there) and there[-1].place > self._place)  # or deleted
        if not is_replaced and len(there) < len(tail.entries):
            await self._restore(tail.entries)
            if not tail.is_over:
                await self._logs.own(tail.id, self._owner)

    async def run(self, timing: Timing) -> None:
        """Write to the end. Raises Fenced."""
        answer = self.answer
        await answer.started()
        timing.admitted()
        if not self._is_started and answer.failed is None:
            await self._append(Started(time.time()))
        over = False
        while not over:
            pieces = await answer.pieces()
            over = answer.is_over
            timing.received(pieces)
            if pieces:
                progress = Progress(time.time(), tuple(map(logged, pieces)))
                await self._append(progress)
                self._check(progress)
        fault = None if answer.failed is None else fault_of(of_failure(answer.failed, self._limits.retry_after_s))
        await self._append(End(time.time(), fault))
        if self.tail.record.background:  # nobody's request lasts as long
            log.info("answered in the background", answer=self.tail.record.answer_id, **account_of(answer))
        await self._logs.close(self.tail.id, self.tail.record.keep_s)

    def _check(self, progress: Progress) -> None:
        self._bytes += size_of(progress)
        if self._bytes > self._limits.resumable_bytes and not self.answer.is_over:
            most = self._limits.resumable_bytes / 2**20
            message = f"this answer is larger than {most:g} MiB, more than is kept of one that can be resumed"
            self.answer.fail(
                Failed(self.answer.id, Failure.TOO_LARGE, f"{message}: ask for less, or without resumable")
            )

    async def _append(self, entry: Entry) -> None:
        tail = self.tail
        if self.is_replaced:
            raise Fenced
        placed = Placed(self._place.next, entry)
        match await self._logs.append(tail.id, placed, len(tail.entries) + 1):
            case Appended.FENCED:
                raise Fenced
            case Appended.LOST:
                await self._restore([*tail.entries, placed])
                await self._logs.own(tail.id, self._owner)
            case Appended.DONE:
                pass
        self._place = placed.place
        tail.push([placed])

    async def _restore(self, entries: Sequence[Placed]) -> None:
        log.warning("a log was lost, writing it again", answer=self.tail.record.answer_id)
        await self._logs.restore(self.tail.id, entries, self.tail.record.keep_s)


def next_term(place: Place) -> Place:
    """Where the claim of a new writer goes."""
    return Place(place.term + 1, 0)
