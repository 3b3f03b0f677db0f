"""All answers of this process that outlive their connections: those that it writes, and those that are read here.

An answer is written by the process that took its request. When that one is gone, any other takes it over: it
opens a new term of the log, builds the answer again from the entries and has the request announced again. Knows
nothing of HTTP or of the streams' server.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from shared.protocol import Failed, Failure
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.answers import Answer
from tokenizer_svc.api_error import ApiError, invalid, unavailable
from tokenizer_svc.asked import Asked
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Keeping
from tokenizer_svc.limits import Limits
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.resumable.entries import (
    BEFORE_ALL,
    FIRST,
    GONE,
    Claim,
    Gone,
    Owner,
    Placed,
    Record,
    announced,
    parse_answer_id,
)
from tokenizer_svc.resumable.fold import Fold, folded
from tokenizer_svc.resumable.log import Logs, as_entries
from tokenizer_svc.resumable.recent import Recent
from tokenizer_svc.resumable.tail import Tail
from tokenizer_svc.resumable.writer import Fenced, Writer, next_term
from tokenizer_svc.timing import Timing

log = structlog.get_logger("resumable")

_LOOK_S = 0.5  # between looks at logs whose writer or readers may be gone
_SECOND_LOOK_S = 0.3  # after which an answer is called unknown
_MENDING_S = 5  # for which a log may be missing because all data was lost
_SUSPECT_S = 2.0  # how long a writer must be missing: after a pause of the server, all pulses look old
_FORGOTTEN_S = 60.0  # how long a log may be ours without being written
_PROLONG_S = 20.0
_UNAVAILABLE = 503
_LEAST_KEEP_S = 120  # of a log that is being written


class Door(Protocol):
    """What this package asks of the front door."""

    limits: Limits
    metrics: Metrics

    @property
    def model(self) -> str: ...

    async def submit(
        self, drafts: Sequence[Draft], *, shares_id: bool, caller: Caller, keeping: Keeping | None = None
    ) -> Answer:
        """Announce a request."""
        ...

    async def revive(self, fold: Fold) -> Answer:
        """Announce again what is unfinished of an answer; its text comes here from now on.

        Raises ApiError: 503 while something is missing for that, another status where it cannot be done.
        """
        ...

    def abandon(self, answer: Answer) -> None:
        """Nobody waits for this answer any more: free what it holds."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether this process is about to end."""
        ...

    def let_go(self, answer: Answer) -> None:
        """Another process has this answer now."""
        ...

    async def cancel(self, fold: Fold) -> None:
        """Abort all of an answer, wherever it is."""
        ...

    async def absent(self, owners: set[Owner]) -> set[Owner]:
        """Those of these front doors that are not there, as of now. Raises ApiError 503."""
        ...


class Opened(NamedTuple):
    """Who asked, and what is kept of it."""

    path: str
    body: bytes
    caller: Caller
    arrived: float  # time.perf_counter() at the request's arrival
    keep_s: int | None = None  # where it is not kept for as long as others
    grace_s: float | None = None  # likewise, for which it goes on unread


class Resumables:
    """Answers by their number. Methods raise ApiError 503 where the logs cannot be reached."""

    def __init__(
        self,
        door: Door,
        logs: Logs,
        owner: Owner,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        *,
        grace_s: float,
        keep_s: int,
    ) -> None:
        self._door = door
        self._logs = logs
        self._owner = owner
        self._spawn = spawn
        self._grace_s = grace_s
        self._keep_s = keep_s
        self._tails: dict[int, Tail] = {}
        self._writers: dict[int, Writer] = {}
        self._recent = Recent()
        self._suspects: dict[int, tuple[Owner, float]] = {}
        self._orphans: set[int] = set()  # claimed, but not announced again
        self._absent: set[int] = set()  # followed logs that were not there at the last look
        self._prolonged = time.monotonic()
        self._mended = -math.inf
        self._wanted = asyncio.Event()  # there is something to follow

    @property
    def read(self) -> int:
        """How many answers somebody is being sent."""
        return sum(tail.readers > 0 for tail in self._tails.values())

    # --- life

    async def begin(self) -> set[int]:
        """Sequences that an earlier process of this name left to be taken over, by their ids."""
        kept: set[int] = set()
        for id, owner in (await self._logs.owned()).items():
            if owner.replica == self._owner.replica:
                for placed in (await self._logs.read(id, BEFORE_ALL))[:1]:
                    if isinstance(placed.entry, Record):
                        kept |= {sequence.id for sequence in placed.entry.sequences}
        self._spawn(self._look())
        self._spawn(self._follow())
        return kept

    # --- what clients ask for

    async def open(self, asked: Asked, opened: Opened) -> Tail:
        """Take a new request. It goes on without the one who asks for it. Raises ApiError."""
        drafts = await asked.draft()
        most = self._door.limits.resumable_sequences
        if len(drafts) > most:
            raise invalid(f"{len(drafts)} answers: at most {most} to one request that can be resumed", "n")
        opening = asyncio.create_task(self._open(asked, drafts, opened))
        opening.add_done_callback(_retrieve)
        return await asyncio.shield(opening)

    async def _open(self, asked: Asked, drafts: Sequence[Draft], opened: Opened) -> Tail:
        made: list[Record] = []
        keep_s = self._keep_s if opened.keep_s is None else opened.keep_s
        grace_s = self._grace_s if opened.grace_s is None else opened.grace_s

        def record(answer: Answer) -> Record:
            made.append(
                Record(
                    answer_id=f"{asked.prefix}{answer.id:016x}",
                    path=opened.path,
                    body=opened.body,
                    tenant=opened.caller.tenant,
                    client=opened.caller.turn,
                    owner=self._owner,
                    detokenizer=answer.detokenizer,
                    model=asked.model or self._door.model,
                    arrived=time.time() - (time.perf_counter() - opened.arrived),
                    stream=asked.stream,
                    background=asked.background,
                    shares_id=asked.shares_id,
                    grace_s=grace_s,
                    keep_s=keep_s,
                    sequences=tuple(map(announced, answer.choices)),
                )
            )
            return made[-1]

        # Without a client to wait for, it lives as long as it would be kept.
        lives_s = max(grace_s, keep_s) if asked.background else grace_s
        answer = await self._door.submit(
            drafts, shares_id=asked.shares_id, caller=opened.caller, keeping=Keeping(lives_s, record)
        )
        [first] = made
        tail = Tail(first)
        tail.push([Placed(FIRST, first)])
        self._write(answer, tail, opened.arrived)
        return tail

    async def find(self, answer_id: str, tenant: str) -> Tail:
        """The log of a tenant's answer, to be read at once: unread ones are forgotten. Raises ApiError 404."""
        id = parse_answer_id(answer_id)
        tail = None if id is None else await self._tail(id)
        if tail is None and id is not None:
            tail = await self._second_look(id)
        if tail is None or tail.is_gone or (tail.record.tenant, tail.record.answer_id) != (tenant, answer_id):
            message = f"there is no answer {answer_id!r} of yours here: only requests with resumable or background are"
            raise ApiError(404, f"{message} kept, for {self._keep_s} s after their end", code="not_found")
        return tail

    async def _second_look(self, id: int) -> Tail | None:
        """What is not there may be about to be put back. Raises ApiError 503 where that is likely."""
        self._logs.doubt()
        await asyncio.sleep(_SECOND_LOOK_S)
        tail = await self._tail(id)
        if tail is None and self._is_mending:
            raise unavailable("the server is putting back what it keeps: ask again in a few seconds", _MENDING_S)
        return tail

    async def mend(self) -> None:
        """The server of the streams may have lost what was written: put back what is being written here."""
        self._mended = time.monotonic()
        try:
            writers = [*self._writers.values(), *self._recent.writers]
            await asyncio.gather(*(writer.mend() for writer in writers))
        except ApiError as error:
            log.warning("logs could not be looked at, the next entry puts back what is lost", error=error.body.message)

    @property
    def _is_mending(self) -> bool:
        """Writers elsewhere may not have put their logs back yet."""
        return time.monotonic() - self._mended < _MENDING_S

    async def refresh(self, tail: Tail) -> None:
        """Take what was written since, without waiting for it."""
        tail.push(await self._logs.read(tail.id, tail.place))

    async def cancel(self, tail: Tail) -> None:
        """End an answer that is under way; what there is of it stays. Its log says when that is done."""
        if writer := self._writers.get(tail.id):
            _abort(writer.answer)
        elif not tail.is_over:
            await self._door.cancel(folded(tail.record, as_entries(tail.entries)))

    def leave(self, tail: Tail) -> None:
        """The client that an answer was for has left: end it, unless somebody else reads it."""
        if tail.readers == 0 and not tail.is_over and (writer := self._writers.get(tail.id)):
            self._door.metrics.disconnects.inc()
            _abort(writer.answer)

    async def delete(self, tail: Tail) -> None:
        """Cancel an answer and forget it."""
        placed = Placed(GONE, Gone())
        await self._logs.delete(tail.id, placed)
        fold = folded(tail.record, as_entries(tail.entries))
        tail.push([placed])
        self._recent.forget(tail.id)
        if writer := self._writers.get(tail.id):
            _abort(writer.answer)
        if fold.ended is None:
            await self._door.cancel(fold)

    async def _tail(self, id: int) -> Tail | None:
        if tail := self._tails.get(id):
            return tail
        entries = await self._logs.read(id, BEFORE_ALL)
        if tail := self._tails.get(id):  # meanwhile
            return tail
        tail = _tail_of(entries)
        if tail is not None and not tail.is_over:
            self._tails[id] = tail
            self._wanted.set()
        return tail

    # --- writing

    def _write(self, answer: Answer, tail: Tail, arrived: float) -> None:
        self._tails[tail.id] = tail
        writer = self._writers[tail.id] = Writer(answer, tail, self._logs, self._owner, self._door.limits)
        self._spawn(self._run(writer, Timing(self._door.metrics, answer, arrived)))

    async def _run(self, writer: Writer, timing: Timing) -> None:
        id = writer.tail.id
        try:
            await writer.run(timing)
        except Fenced:
            log.info("another process has this answer now, or it was deleted", answer=writer.tail.record.answer_id)
            self._door.let_go(writer.answer)
        else:
            self._door.abandon(writer.answer)
            self._recent.add(writer, time.monotonic())
        finally:
            del self._writers[id]
            timing.over()
            self._wanted.set()  # who reads it here goes on

    async def _adopt(self, id: int) -> None:
        """Go on with an answer whose writer is gone. Raises ApiError while a process is missing for that."""
        tail = await self._tail(id)  # the one that readers here have, or will have
        if tail is not None:
            await self.refresh(tail)
        if tail is None or tail.is_over:
            self._orphans.discard(id)
            await self._logs.close(id, self._keep_s if tail is None else tail.record.keep_s)
            return
        before = folded(tail.record, as_entries(tail.entries))
        if before.owner != self._owner and not await self._door.absent({before.owner}):
            await self._logs.own(id, before.owner)  # it has claimed the log, and is about to say so, or could not
            return
        claim = Claim(self._owner, before.detokenizer)
        if not await self._logs.claim(id, Placed(next_term(tail.place), claim)):
            return
        await self.refresh(tail)  # what was written until then, and the claim
        await self._logs.own(id, self._owner)
        self._orphans.add(id)
        try:
            answer = await self._door.revive(folded(tail.record, as_entries(tail.entries)))
        except ApiError as error:
            if error.status == _UNAVAILABLE:
                raise
            log.error("an answer cannot be taken over", answer=tail.record.answer_id, reason=error.body.message)
            answer = folded(tail.record, as_entries(tail.entries)).answer
            answer.fail(Failed(answer.id, Failure.WORKER, f"the server could not go on: {error.body.message}"))
        self._orphans.discard(id)
        log.info("going on with an answer of another process", answer=tail.record.answer_id)
        self._write(answer, tail, time.perf_counter() - (time.time() - tail.record.arrived))

    # --- chores

    async def _follow(self) -> None:
        while True:
            followed = {id: tail for id, tail in self._tails.items() if id not in self._writers and not tail.is_over}
            if not followed:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            news = await self._logs.follow({id: tail.place for id, tail in followed.items()})
            for id, entries in news.items():
                followed[id].push(entries)

    async def _look(self) -> None:
        while True:
            try:
                await self._take_over()
                await self._tend()
                await self._stop_unread()
            except ApiError as error:
                log.warning("the logs of answers cannot be looked after", error=error.body.message)
            await asyncio.sleep(_LOOK_S)

    async def _take_over(self) -> None:
        """Adopt the answers of processes that are gone."""
        now = time.monotonic()
        owned = await self._logs.owned()
        for id in owned.keys() & self._writers.keys():
            if owned.pop(id) != self._owner:
                await self._give_way(self._writers[id])
        absent = await self._door.absent(set(owned.values()) - {self._owner})
        suspects: dict[int, tuple[Owner, float]] = {}
        for id, owner in () if self._door.is_stopping else owned.items():
            is_own = owner == self._owner
            if not is_own and owner not in absent:
                continue
            known = self._suspects.get(id)
            since = known[1] if known is not None and known[0] == owner else now
            suspects[id] = owner, since
            is_successor = owner.replica == self._owner.replica and not is_own
            if is_own and id not in self._orphans:
                if now - since > _FORGOTTEN_S:  # it could not be announced, and that could not be told
                    await self._logs.close(id, self._keep_s)
            elif is_own or is_successor or now - since > _SUSPECT_S:
                try:
                    await self._adopt(id)
                except ApiError as error:
                    log.info("an answer waits to be taken over", reason=error.body.message)
        self._suspects = suspects

    async def _give_way(self, writer: Writer) -> None:
        """Another process writes this log: let the writer here notice, though it may have nothing to write."""
        await self.refresh(writer.tail)
        if writer.is_replaced:
            _abort(writer.answer)

    async def _tend(self) -> None:
        """Keep what is written, say what is read, forget what is neither."""
        self._recent.forget_old(time.monotonic())
        for id, tail in tuple(self._tails.items()):
            if id not in self._writers and not tail.readers:
                del self._tails[id]
        away = [id for id in self._tails if id not in self._writers]
        await self._logs.note_readers(away, time.time())
        gone = await self._logs.missing(away)
        for id in () if self._is_mending else gone & self._absent:
            if tail := self._tails.get(id):
                tail.miss()
        self._absent = gone
        if time.monotonic() - self._prolonged > _PROLONG_S:
            self._prolonged = time.monotonic()
            await self._logs.prolong(tuple(self._writers), max(self._keep_s, _LEAST_KEEP_S))

    async def _stop_unread(self) -> None:
        """End the answers to whose clients have not come back in time."""
        for writer in tuple(self._writers.values()):
            tail = writer.tail
            if tail.readers or tail.record.background:
                continue
            away = time.monotonic() - tail.read_at
            if away > tail.record.grace_s:
                elsewhere = time.time() - await self._logs.last_read(tail.id)
                if elsewhere > tail.record.grace_s:
                    log.info("nobody came back for an answer", answer=tail.record.answer_id)
                    self._door.metrics.disconnects.inc()
                    _abort(writer.answer)
                else:
                    tail.read_at = time.monotonic() - elsewhere


def _retrieve(opening: asyncio.Task[Tail]) -> None:
    """Whoever waits gets the exception; a client that left needs none."""
    if not opening.cancelled():
        opening.exception()


def _abort(answer: Answer) -> None:
    for choice in answer.unfinished:
        answer.aborted(choice)


def _tail_of(entries: Sequence[Placed]) -> Tail | None:
    """A log as it was read; None where there is none."""
    if not entries or not isinstance(record := entries[0].entry, Record):
        return None
    tail = Tail(record)
    tail.push(entries)
    return tail
