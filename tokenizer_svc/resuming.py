"""Answers that outlive their connection, over HTTP: begun, read from any event on, fetched whole, deleted.

Reading follows the answer's log, so that it is the same in every front door: an event that a client saw is in the
log, and one that is in the log never changes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from aiohttp import web

from tokenizer_svc.access.guard import tenant_of
from tokenizer_svc.api_error import ApiError, internal, invalid
from tokenizer_svc.asked import READERS, Asked
from tokenizer_svc.engine import Engine
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.rendering import Origin, Rendering
from tokenizer_svc.responding import send_json
from tokenizer_svc.resumable.entries import End, EventId, Gone, Placed, Record, Started, parse_event_id
from tokenizer_svc.resumable.fold import Fold, error_of, events_of, whole_of
from tokenizer_svc.resumable.resumables import Opened, Resumables
from tokenizer_svc.resumable.tail import Missing, Tail
from tokenizer_svc.sse import HEADERS, named
from tokenizer_svc.structure import Structure

log = structlog.get_logger("http")

LAST_EVENT_ID = "Last-Event-ID"
_RESUMABLE = "X-Resumable"
_YES, _NO = frozenset({"true", "1"}), frozenset({"false", "0"})
_PERIOD = 64  # entries folded without a pause for others
_ASKING = ("resumable", "background")  # fields that say nothing of the answer


class Ticket(msgspec.Struct, frozen=True):
    """Where to find an answer that is not complete."""

    id: str
    object: str
    status: str  # queued, in_progress
    stream_url: str


class Deleted(msgspec.Struct, frozen=True):
    """A forgotten answer."""

    id: str
    object: str
    deleted: bool


class Wish(NamedTuple):
    """How long an answer is to live."""

    resumable: bool
    background: bool


def read_wish(headers: Mapping[str, str], asked: Asked) -> Wish:
    """What a request says of it. Raises ApiError 400."""
    header = headers.get(_RESUMABLE, "false").lower()
    if header not in _YES | _NO:
        raise invalid(f"the header {_RESUMABLE} must be true or false, not {header!r}", _RESUMABLE)
    wish = Wish(asked.resumable or header in _YES, asked.background)
    if wish.resumable and not asked.stream and not wish.background:
        message = "resumable is for streams: set stream to true, or background to true to fetch the answer later"
        raise invalid(message, "resumable")
    return wish


class Resuming:
    """Answers kept by :class:`~tokenizer_svc.resumable.resumables.Resumables`, as clients get them."""

    def __init__(self, engine: Engine, resumables: Resumables) -> None:
        self._engine = engine
        self._resumables = resumables

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/streams/{id}", self.get, allow_head=False)
        router.add_delete("/v1/streams/{id}", self.delete)

    # --- POST, on the routes of generation

    async def begin(self, outlet: Outlet, asked: Asked, wish: Wish, opened: Opened) -> web.StreamResponse:
        """A new answer."""
        tail = await self._resumables.open(asked, opened)
        if wish.background:
            outlet.note(Fold(tail.record).answer)
            return _json(202, _ticket(tail))
        return await self.stream(outlet, tail, 0)

    async def again(self, outlet: Outlet, opened: Opened, last: str) -> web.StreamResponse:
        """The same request once more, after the connection was cut. Raises ApiError."""
        event = _event_id(last, LAST_EVENT_ID)
        tail = await self._resumables.find(event.answer_id, opened.caller.tenant)
        if (tail.record.path, tail.record.body) != (opened.path, opened.body):
            message = f"{event.answer_id} is the answer to another request: send that one again, or GET {_url(tail)}"
            raise invalid(message, LAST_EVENT_ID, "another_request")
        return await self.stream(outlet, tail, event.ordinal)

    # --- /v1/streams

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/streams/{id}: the events after Last-Event-ID, or the whole answer where it is no stream."""
        answer_id = request.match_info["id"]
        name = "last_event_id" if "last_event_id" in request.query else LAST_EVENT_ID
        last = request.query.get("last_event_id", request.headers.get(LAST_EVENT_ID))
        after = 0 if last is None else _event_id(last, name)
        wait = _wait(request.query.get("wait"), self._engine.limits.wait_s)
        tail = await self._resumables.find(answer_id, tenant_of(request))
        outlet = Outlet(request, self._engine.limits)
        with self._engine.outlets.using(outlet):
            if not tail.record.stream:
                if after:
                    raise invalid(f"{answer_id} is no stream: leave {name} out", name)
                return await self._whole(outlet, tail, wait)
            if isinstance(after, EventId) and after.answer_id != answer_id:
                raise invalid(f"{name} is an event of {after.answer_id}, not of {answer_id}", name, "another_answer")
            return await self.stream(outlet, tail, after.ordinal if isinstance(after, EventId) else 0)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/streams/{id}: cancel and forget."""
        tail = await self._resumables.find(request.match_info["id"], tenant_of(request))
        await self._resumables.delete(tail)
        return _json(200, Deleted(tail.record.answer_id, "answer.deleted", deleted=True))

    # --- inside

    async def _whole(self, outlet: Outlet, tail: Tail, wait: float) -> web.StreamResponse:
        with tail.reading():
            try:
                async with asyncio.timeout(wait):
                    while not tail.is_over:
                        await tail.beyond(len(tail.entries))
            except TimeoutError:
                return _json(202, _ticket(tail), {"Retry-After": str(self._engine.limits.retry_after_s)})
            except Missing:
                raise _lost(tail) from None
            match tail.entries[-1].entry:
                case End(fault=None):
                    pass
                case End(fault=fault) if fault is not None:
                    raise error_of(fault)
                case _:
                    raise _lost(tail)
        fold = Fold(tail.record)
        outlet.note(fold.answer)
        rendering, structure = rendering_of(fold, self._engine)
        async with self._engine.borrowed(structure, tail.record.client):
            body = whole_of(fold, rendering, [placed.entry for placed in tail.entries])
        return await send_json(outlet, body)

    async def stream(self, outlet: Outlet, tail: Tail, after: int) -> web.StreamResponse:
        """The events after the first ``after``."""
        with tail.reading():
            fold = Fold(tail.record)
            outlet.note(fold.answer)
            rendering, structure = rendering_of(fold, self._engine)
            try:
                await self._known(tail, after, waits=rendering.waiting is None)
            except Missing:
                raise _lost(tail) from None
            async with self._engine.borrowed(structure, tail.record.client):
                source = _Events(tail, fold, rendering)
                skipped = await source.skip(after)
                if skipped < after:
                    message = f"{tail.record.answer_id} has {skipped} events so far, none of them is number {after}"
                    raise invalid(message, LAST_EVENT_ID, "no_such_event")
                response = await outlet.open(HEADERS)
                await self._send(outlet, response, source)
                return response

    async def _known(self, tail: Tail, after: int, *, waits: bool) -> None:
        """Wait until it is certain that there is a stream. Raises ApiError where there is none, Missing.

        ``waits``: it says nothing before its answer starts.
        """
        if after:  # a client may know more than this process does
            await self._resumables.refresh(tail)
        count = 0
        while True:
            for placed in await tail.beyond(count):
                count += 1
                match placed.entry:
                    case Started():
                        return
                    case End(fault=fault) if waits and fault is not None:
                        raise error_of(fault)
                    case Record() if not waits:
                        return
                    case Gone():
                        raise _lost(tail)
                    case _:
                        pass

    async def _send(self, outlet: Outlet, response: web.StreamResponse, source: _Events) -> None:
        try:
            while not source.is_over:
                await outlet.write(response, b"".join(await source.next()))
            await response.write_eof()
        except ConnectionError:
            log.debug("client left", answer=source.answer_id)
        except Missing:
            await response.write(source.failing(_lost(source.tail)))
        except Exception:
            log.exception("stream failed", answer=source.answer_id)
            await response.write(
                source.failing(internal("the stream failed inside the server: ask for the rest of it"))
            )


def rendering_of(fold: Fold, engine: Engine) -> tuple[Rendering, Structure | None]:
    """The shape that a kept answer has, and the grammar that it needs for that."""
    record = fold.record
    asked = READERS[record.path](msgspec.json.decode(record.body), engine)
    origin = Origin(record.model, int(record.arrived), fold.elapsed)
    return asked.rendering(fold.answer, origin), asked.renders_with


class _Events:
    """The numbered events of a log, from where they are wanted."""

    def __init__(self, tail: Tail, fold: Fold, rendering: Rendering) -> None:
        self.tail = tail
        self.answer_id = tail.record.answer_id
        self._fold = fold
        self._rendering = rendering
        self._taken = 0  # entries
        self._ordinal = 0
        self._ahead: list[bytes] = []  # events of entries that were read to skip others

    @property
    def is_over(self) -> bool:
        return self._fold.ended is not None and not self._ahead

    def failing(self, error: ApiError) -> bytes:
        """The last events where the rest cannot be had."""
        return self._rendering.failing(error)

    async def skip(self, count: int) -> int:
        """Pass over the first ``count`` events, as far as they are there; returns how many."""
        while self._ordinal < count and self._taken < len(self.tail.entries):
            self._ahead = self._fold_some(self.tail.entries[self._taken : self._taken + _PERIOD])
            await asyncio.sleep(0)
        left = self._ordinal - len(self._ahead)
        self._ahead = self._ahead[count - left :] if count > left else self._ahead
        return min(count, self._ordinal)

    async def next(self) -> list[bytes]:
        """The next events. Raises Missing."""
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return ahead
        entries = await self.tail.beyond(self._taken)
        return self._fold_some(entries[:_PERIOD])

    def _fold_some(self, entries: Sequence[Placed]) -> list[bytes]:
        found: list[bytes] = []
        for placed in entries:
            self._taken += 1
            for event in events_of(self._fold, self._rendering, placed.entry):
                self._ordinal += 1
                found.append(named(event, str(EventId(self.answer_id, self._ordinal))))
            if isinstance(placed.entry, Gone):
                found.append(self.failing(_lost(self.tail)))
        return found


def canonical(body: Mapping[str, Any]) -> bytes:
    """A request's body as it is kept and compared: what it says, however it is spelt."""
    return msgspec.json.encode({k: v for k, v in body.items() if k not in _ASKING}, order="deterministic")


def _event_id(text: str, name: str) -> EventId:
    event = parse_event_id(text)
    if event is None:
        message = f"{name} must be the id of an event, such as chatcmpl-0123456789abcdef:12, not {text[:80]!r}"
        raise invalid(message, name)
    return event


def _wait(text: str | None, most: float) -> float:
    try:
        wait = 0.0 if text is None else float(text)
    except ValueError:
        wait = math.nan
    if not 0 <= wait <= most:
        raise invalid(f"wait must be seconds between 0 and {most:g}, not {str(text)[:80]!r}", "wait")
    return wait


def _url(tail: Tail) -> str:
    return f"/v1/streams/{tail.record.answer_id}"


def _ticket(tail: Tail) -> Ticket:
    started = any(isinstance(placed.entry, Started) for placed in tail.entries)
    return Ticket(tail.record.answer_id, "answer", "in_progress" if started else "queued", _url(tail))


def _lost(tail: Tail) -> ApiError:
    return ApiError(404, f"{tail.record.answer_id} was deleted: send the request again", code="not_found")


def _json(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(body)
    return web.Response(body=data, status=status, content_type="application/json", headers=headers)
