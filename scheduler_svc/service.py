"""The scheduler process: streams in, streams out, and what has to happen at start and on restarts.

At its start it folds what the streams hold (`live`, `requests`, the step log) into the scheduler and opens
a new epoch; from then on it reads `requests` and `steps:{w}`, and answers each batch of entries with one
transaction: replies first, then what ended, then plans. All decisions are made in scheduler.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

import structlog

from scheduler_svc.instruments import Instruments
from scheduler_svc.limits import Limits
from scheduler_svc.policy import Policy
from scheduler_svc.recovery import StepLog
from scheduler_svc.scheduler import Scheduler
from scheduler_svc.tracing import RequestSpans
from scheduler_svc.trimming import Trimming
from shared import columns
from shared.bus import Entry, Reader, Unavailable
from shared.config import WORKER
from shared.cursors import START
from shared.errors import UserError
from shared.protocol import (
    Abort,
    AbortMany,
    Flush,
    Generate,
    Hello,
    Message,
    Open,
    Opened,
    Pause,
    PauseMode,
    Plan,
    ProtocolError,
    Release,
    Restate,
    Resume,
    Step,
    decode,
    encode,
)
from shared.registry import Role, State
from shared.rounds import WAITS
from shared.service import Context

log = structlog.get_logger("scheduler")

_EASE_S = 0.025  # how long steps lie unread, at most, where nobody waits for what they say: several cost as much as one
_BLOCK_MS = 1000
_CHORES_S = 1.0  # how often streams are trimmed and front doors counted
_AUDIT_S = 30.0  # 0.1 ms for 3,000 pages, 7 for 64,000
_PAUSE_MODE = "mode"  # the one field of the hash `pause`
_PATIENCE_S = 10.0  # how long a front door may be away before its requests end, if they ask for no longer


async def serve(context: Context) -> None:
    """Run until stopped, between two rounds."""
    context.spawn(Service(context).run())
    await context.stopping.wait()
    await context.idle()


class Service:
    """One scheduler on one bus, with the one worker."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._context = context
        self._bus = context.bus
        self._requests = self._bus.names.requests
        self._steps = self._bus.names.steps(WORKER)
        self._plans = self._bus.names.plans(WORKER)
        self._scheduler = Scheduler(
            Limits(
                settings.lease,
                settings.max_queue,
                Policy(settings.policy),
                settings.radix_cache,
                settings.context_keep,
            )
        )
        self._instruments = Instruments(context.metrics, self._scheduler)
        self._spans = RequestSpans(context.tracing) if context.tracing else None
        self._log = StepLog()
        self._trimming = Trimming()
        self._asked: int | None = None  # the epoch asked for and not opened yet
        self._recorded_pause: PauseMode | None = None  # as it is kept for the next process
        self._epoch: int | None = None  # the epoch opened last
        self._chores_at = 0.0
        self._audited_at = 0.0
        self._seen: dict[str, float] = {}  # front doors, and when they last showed a pulse

    async def run(self) -> None:
        """Catch up, then go on for ever."""
        reader = await self._recovered()
        self._context.spawn(self._trim(reader))
        rounds = self._context.rounds
        while True:
            rounds.end()
            self._context.waiting = self._scheduler.waiting
            entries = await self._news(reader)
            rounds.begin(len(entries))
            if self._context.data_lost.take():
                await self._start_over()
            if entries or self._until_deadline_ms == 0:
                began = time.thread_time()
                await self._take(entries)
                if self._scheduler.torn and self._asked is None and self._log.hello is not None:
                    log.warning("steps were lost, going on from what is known in a new epoch")
                    await self._open(self._log.hello)
                plans = self._planned()
                self._instruments.on_round(time.thread_time() - began)
                rounds.begin(WAITS)
                await self._commit(plans, reader.cursors[self._steps])
            if time.monotonic() - self._chores_at > _CHORES_S:
                rounds.begin(WAITS)
                self._chores_at = time.monotonic()
                await self._chores(reader)

    async def _news(self, reader: Reader) -> list[Entry]:
        """The next entries. While nobody waits for steps they may pile up, but who comes finds them all read."""
        ease_ms = int(1000 * min(self._scheduler.ease_s, _EASE_S))
        until_ms = self._until_deadline_ms
        block_ms = _BLOCK_MS if until_ms is None else min(_BLOCK_MS, until_ms)
        if ease_ms < 1:
            return await reader.next(block_ms)
        entries = await reader.next(ease_ms, only=self._requests)
        return entries + await reader.next(block_ms=0 if entries else block_ms)

    @property
    def _until_deadline_ms(self) -> int | None:
        """Milliseconds, rounded up, until a request's deadline passes; None where none has one."""
        deadline = self._scheduler.next_deadline
        return None if deadline is None else max(0, math.ceil(1000 * (deadline - time.time())))

    # --- start

    async def _recovered(self) -> Reader:
        """Fold what the streams hold, in the order that loses nothing: announcements, live requests, steps."""
        await self._context.peers.refresh()
        now = time.time()
        announced = await self._bus.range(self._requests)
        live = await self._bus.hash(self._bus.names.live)
        steps = await self._bus.range(self._steps)
        await self._recover_pause()
        for generate in _decoded(live):
            self._scheduler.submit(generate, now, restored=True)
            if self._spans is not None:
                self._spans.announced(generate, time.time_ns())
            self._trimming.started(generate.id, START)
        self._log.start(entry.message for entry in steps)
        for entry in steps:
            self._fold(entry.message, now)
        for entry in announced:
            if not isinstance(entry.message, Generate):  # those are in `live`, or ended
                self._on_request(entry.message, now)
        if self._log.hello is None and (card := (await self._bus.hash(self._bus.names.model)).get(WORKER)):
            self._on_card(card)
        if live:
            log.info("recovered", requests=len(live), steps=len(steps))
        last = steps[-1].id if steps else START
        await self._commit([], last)
        if self._log.hello is not None:
            await self._open(self._log.hello)
        cursors = {self._requests: announced[-1].id if announced else START, self._steps: last}
        return Reader(self._bus, [self._requests, self._steps], cursors)

    async def _recover_pause(self) -> None:
        kept = (await self._bus.hash(self._bus.names.pause)).get(_PAUSE_MODE, b"").decode()
        if kept in list(PauseMode):
            log.warning("still pausing: POST /continue_generation ends it", mode=kept)
            self._recorded_pause = PauseMode(kept)
            self._context.paused = kept
            self._scheduler.restore_pause(self._recorded_pause)

    def _on_card(self, payload: bytes) -> None:
        """The worker's Hello as it is kept besides the step log, in case that was trimmed."""
        try:
            hello = decode(payload)
        except ProtocolError as error:
            log.warning("the worker's card cannot be read", error=str(error))
            return
        if isinstance(hello, Hello):
            self._log.on_hello(hello)

    async def _open(self, hello: Hello) -> None:
        """Ask the worker to forget its rows and obey us; planning goes on with its answer."""
        self._scheduler.suspend()
        self._asked = await self._bus.next_epoch(WORKER)
        await self._context.announce(State.LOADING, "waiting for the worker")
        await self._bus.append(self._plans, Open(self._asked, hello.incarnation))

    async def _start_over(self) -> None:
        """Redis lost its data: put back what is live, and have the worker begin again from what is known here.

        What was on its way is lost. Front doors announce again, and readers of the step log ask for what they lack.
        """
        live = self._scheduler.live
        log.warning("redis lost its data, putting back what is known", requests=len(live))
        writes = self._bus.transaction()
        for generate in live:
            writes.put(self._bus.names.live, str(generate.id), encode(generate))
        if (pause := self._scheduler.paused) is not None:
            writes.put(self._bus.names.pause, _PAUSE_MODE, pause.encode())
        await writes.commit()
        if self._log.hello is not None:
            await self._open(self._log.hello)

    # --- messages

    async def _take(self, entries: list[Entry]) -> None:
        now = time.time()
        for entry in entries:
            if entry.stream == self._requests:
                self._on_request(entry.message, now)
                continue
            match self._fold(entry.message, now):
                case Hello() as hello:
                    log.info("worker started", incarnation=hello.incarnation, model=hello.card.model)
                    self._scheduler.on_death()
                    await self._open(hello)
                case Opened() as opened:
                    await self._on_opened(opened)
                case _:
                    pass

    def _on_request(self, message: Message, now: float) -> None:
        match message:
            case Generate():
                log.debug("queued", request=f"{message.id:016x}", tenant=message.tenant)
                self._scheduler.submit(message, now)
                if self._spans is not None:
                    self._spans.announced(message, time.time_ns())
            case Abort(id, notify, why):
                log.debug("aborting", request=f"{id:016x}")
                self._scheduler.abort(id, notify=notify, message=why)
            case AbortMany():
                self._scheduler.abort_many(message)
            case Pause():
                log.info("pausing", mode=message.mode)
                self._scheduler.pause(message)
            case Resume():
                log.info("going on after a pause")
                self._scheduler.resume(message)
            case Flush():
                self._scheduler.flush(message)
            case Release(contexts):
                self._scheduler.release(contexts)
            case Restate(ids):
                self._scheduler.restate(columns.longs(ids))
            case _:
                log.warning("not a message for the scheduler", message=type(message).__name__)

    def _fold(self, message: Message, now: float) -> Hello | Opened | None:
        """Take one message of the step log; returns it if something is to be done about it."""
        match message:
            case Step():
                if self._log.counts(message):
                    self._scheduler.on_step(message, now)
                    if self._spans is not None:
                        self._spans.stepped(message, time.time_ns())
                return None
            case Opened():
                self._log.on_opened(message)
                return message
            case Hello():
                return message if self._log.on_hello(message) else None
            case _:
                return None

    async def _on_opened(self, opened: Opened) -> None:
        newest = self._asked or self._epoch
        if newest is None or opened.epoch > newest or self._log.hello is None:
            raise UserError(
                f"another scheduler took over namespace {self._bus.names.prefix!r}: there must be only one; "
                "stop one of them, or give each a namespace of its own"
            )
        if opened.epoch != self._asked:
            return  # an answer to what was asked before, or the same answer again
        self._epoch = opened.epoch
        self._asked = None
        self._trimming.opened()
        self._scheduler.reopen(opened.epoch, self._log.hello.card)
        log.info("epoch opened", epoch=opened.epoch, requests=self._scheduler.waiting)
        await self._context.announce(State.READY)

    def _planned(self) -> list[Plan]:
        plans: list[Plan] = []
        now = time.time()
        self._scheduler.expire(now)
        while (plan := self._scheduler.plan(now)) is not None:
            plans.append(plan)
        return plans

    async def _commit(self, plans: list[Plan], cursor: str) -> None:
        """Make a round known: replies, then what ended, then plans, all or nothing."""
        pause = self._scheduler.paused
        if not plans and self._scheduler.outbox.empty and pause is self._recorded_pause:
            return
        if pause is not self._recorded_pause:  # front doors know of it before they are answered
            self._context.paused = pause or ""
            with contextlib.suppress(Unavailable):
                await self._context.beat(with_metrics=False)
        outgoing = self._scheduler.outbox.drain()
        if self._spans is not None:
            self._trace(self._spans, outgoing.ended, plans)
        transaction = self._bus.transaction()
        for to, message in outgoing.replies:
            transaction.append(self._bus.names.texts(to), message)
        for restated in outgoing.restated:
            transaction.append(self._steps, restated)
        transaction.remove(self._bus.names.live, map(str, outgoing.ended))
        if pause is None:
            transaction.remove(self._bus.names.pause, [_PAUSE_MODE] if self._recorded_pause else [])
        elif pause is not self._recorded_pause:
            transaction.put(self._bus.names.pause, _PAUSE_MODE, pause.encode())
        before = len(transaction)
        for plan in plans:
            transaction.append(self._plans, plan)
        for id in outgoing.started:
            self._trimming.started(id, cursor)
        written = await transaction.commit()
        for plan, entry_id in zip(plans, written[before:], strict=True):
            self._trimming.planned(plan.seq, entry_id)
        for id in outgoing.ended:
            self._trimming.ended(id)
        self._recorded_pause = pause

    def _trace(self, spans: RequestSpans, ended: list[int], plans: list[Plan]) -> None:
        now_ns = time.time_ns()
        spans.ended(ended, now_ns)  # first: whose row is released otherwise goes back to the queue
        for plan in plans:
            spans.planned(plan, now_ns)

    # --- chores

    async def _chores(self, reader: Reader) -> None:
        """Bring metrics up to date, and end the requests of front doors that are gone."""
        self._instruments.observe()
        self._end_orphans(time.monotonic())
        self._scheduler.expire_contexts(time.time())
        await self._audit(time.monotonic())
        await self._commit(self._planned(), reader.cursors[self._steps])

    async def _trim(self, reader: Reader) -> None:
        """Forget what nobody needs, also while nothing can be written because Redis is full."""
        while True:
            await asyncio.sleep(_CHORES_S)
            trims = self._bus.transaction().trim(self._requests, reader.cursors[self._requests])
            batch = self._scheduler.batch
            applied = self._trimming.acknowledged(batch.acknowledged) if batch else None
            if applied is not None:
                trims.trim(self._plans, applied)
            now = time.monotonic()
            for pulse in self._context.peers.pulses(Role.DETOKENIZER):
                self._trimming.needs(pulse.replica, pulse.watermark, now)
            trims.trim(self._steps, self._trimming.steps(reader.cursors[self._steps], now))
            with contextlib.suppress(Unavailable):
                await trims.commit()

    async def _audit(self, now: float) -> None:
        """Prove the accounts of KV pages now and then. Where they are wrong an epoch begins, with new ones."""
        if now - self._audited_at < _AUDIT_S or self._asked is not None or self._log.hello is None:
            return
        self._audited_at = now
        if wrong := self._scheduler.audit():
            log.error("the accounts of KV pages are wrong, they are made anew", reason=wrong)
            await self._open(self._log.hello)

    def _end_orphans(self, now: float) -> None:
        for pulse in self._context.peers.pulses(Role.TOKENIZER):
            self._seen[pulse.replica] = now
        owners = self._scheduler.owners
        self._seen = {owner: self._seen.get(owner, now) for owner in owners}
        for owner, seen in self._seen.items():
            ended = self._scheduler.end_orphans(owner, now - seen, _PATIENCE_S)
            if ended:
                log.warning("a front door is gone, its requests end", replica=owner, requests=ended)


def _decoded(live: dict[str, bytes]) -> list[Generate]:
    """The live requests, oldest first."""
    found: list[Generate] = []
    for field, value in live.items():
        try:
            message = decode(value)
        except ProtocolError as error:
            log.error("a live request cannot be read", request=field, error=str(error))
            continue
        if isinstance(message, Generate):
            found.append(message)
    return sorted(found, key=lambda generate: generate.arrived)
