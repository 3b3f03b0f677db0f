"""The routes of the Responses API.

A response is a kept answer: unless ``store`` is false it has a log, and whoever reads it reads the log, also the
client whose request it is. What sets it apart from other kept answers is that it ends with its client's connection,
unless it is in the background or resumable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from tokenizer_svc.access.guard import caller_of, tenant_of
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.api_error import ApiError, internal, invalid
from tokenizer_svc.asked import READERS, RESPONSES, Asked
from tokenizer_svc.body import read_object
from tokenizer_svc.engine import Engine
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.rendering import Origin
from tokenizer_svc.responding import respond, send_json
from tokenizer_svc.responses_api.drafting import count_tokens
from tokenizer_svc.responses_api.items import items_of
from tokenizer_svc.responses_api.kept import Page, as_kept, paged
from tokenizer_svc.responses_api.request import ResponsesRequest, read_input_tokens, read_responses
from tokenizer_svc.responses_api.shapes import DeletedResponse, InputTokens, ItemList
from tokenizer_svc.responses_api.stored import StoredResponses
from tokenizer_svc.resumable.entries import End
from tokenizer_svc.resumable.fold import error_of
from tokenizer_svc.resumable.resumables import Opened, Resumables
from tokenizer_svc.resumable.tail import Missing, Tail
from tokenizer_svc.resuming import LAST_EVENT_ID, Resuming, canonical, read_wish

_GRACE_S = 2.0  # for a client whose response is not in the background to come to read it
_CANCEL_S = 10.0
_MOST_ITEMS, _ITEMS = 100, 20


class ResponsesRoutes:
    """POST /v1/responses, and what can be done with a response that is kept."""

    def __init__(self, engine: Engine, resumables: Resumables, resuming: Resuming) -> None:
        self._engine = engine
        self._resumables = resumables
        self._resuming = resuming
        self._stored = StoredResponses(engine, resumables)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post(RESPONSES, self.create)
        router.add_post(f"{RESPONSES}/input_tokens", self.input_tokens)
        router.add_get(f"{RESPONSES}/{{id}}", self.retrieve, allow_head=False)
        router.add_delete(f"{RESPONSES}/{{id}}", self.delete)
        router.add_post(f"{RESPONSES}/{{id}}/cancel", self.cancel)
        router.add_get(f"{RESPONSES}/{{id}}/input_items", self.input_items, allow_head=False)

    async def create(self, http: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        arrived = time.perf_counter()
        engine = self._engine
        body = await read_object(http, engine.limits)
        request = read_responses(body, engine.limits)
        if not engine.limits.response_keep_s:
            body = _unstored(body, request)
        caller = caller_of(http, request.user or request.safety_identifier)
        last = http.headers.get(LAST_EVENT_ID)
        if last is None:
            engine.check_room(caller)
        items = await self._stored.resolved(items_of(request.input, engine.limits), caller.tenant)
        history = await self._stored.history(request.previous_response_id, caller.tenant)
        kept = as_kept({**body, "input": items}, history)
        asked = READERS[RESPONSES](kept, engine)
        if body.get("store") is False:
            return await self._pass(http, asked, caller, arrived)
        wish = read_wish(http.headers, asked)
        grace_s = None if wish.resumable or wish.background else _GRACE_S
        opened = Opened(RESPONSES, canonical(kept), caller, arrived, engine.limits.response_keep_s, grace_s)
        outlet = Outlet(http, engine.limits)
        with engine.outlets.using(outlet):
            if last is not None:
                return await self._resuming.again(outlet, opened, last)
            tail = await self._resumables.open(asked, opened)
            if wish.background and not asked.stream:
                stored = self._stored.read(tail)
                outlet.note(stored.answer)
                return _json(stored.response)
            try:
                return await (self._resuming.stream(outlet, tail, 0) if asked.stream else self._whole(outlet, tail))
            finally:
                if grace_s is not None:
                    self._resumables.leave(tail)

    async def input_tokens(self, http: web.Request) -> web.Response:
        """POST /v1/responses/input_tokens."""
        engine, tenant = self._engine, tenant_of(http)
        request = read_input_tokens(await read_object(http, engine.limits), engine.limits)
        history = await self._stored.history(request.previous_response_id, tenant)
        items = await self._stored.resolved(items_of(request.input, engine.limits), tenant)
        return _json(InputTokens(await count_tokens(request, [*history, *items], engine)))

    async def retrieve(self, http: web.Request) -> web.StreamResponse:
        """GET /v1/responses/{id}: the response as of now, or its events."""
        tail = await self._stored.find(http.match_info["id"], tenant_of(http))
        query = http.query
        after = _number(query, "starting_after", -1, 0, 10**9)
        if not _flag(query, "stream"):
            if after >= 0:
                raise invalid("starting_after is for streams: set stream to true", "starting_after")
            return _json(self._stored.read(tail).response)
        outlet = Outlet(http, self._engine.limits)
        with self._engine.outlets.using(outlet):
            return await self._resuming.stream(outlet, tail, after + 1)

    async def cancel(self, http: web.Request) -> web.Response:
        """POST /v1/responses/{id}/cancel; one that has ended stays as it is."""
        tail = await self._stored.find(http.match_info["id"], tenant_of(http))
        if not tail.record.background:
            message = f"{tail.record.answer_id} is not in the background: close the connection to cancel it"
            raise invalid(message, "id", "not_in_background")
        await self._resumables.cancel(tail)
        try:
            async with asyncio.timeout(_CANCEL_S):
                await self._over(tail)
        except TimeoutError as error:
            raise internal("the response did not end in time: ask for it again") from error
        return _json(self._stored.read(tail).response)

    async def delete(self, http: web.Request) -> web.Response:
        """DELETE /v1/responses/{id}: cancel and forget."""
        tail = await self._stored.find(http.match_info["id"], tenant_of(http))
        await self._resumables.delete(tail)
        return _json(DeletedResponse(tail.record.answer_id))

    async def input_items(self, http: web.Request) -> web.Response:
        """GET /v1/responses/{id}/input_items: all that went into it, what came before included."""
        tail = await self._stored.find(http.match_info["id"], tenant_of(http))
        query = http.query
        if (order := query.get("order", "desc")) not in ("asc", "desc"):
            raise invalid(f'order must be "asc" or "desc", not {order[:80]!r}', "order")
        page = Page(_number(query, "limit", _ITEMS, 1, _MOST_ITEMS), order == "asc", query.get("after"))
        found = paged(self._stored.read(tail).input, page)
        if found is None:
            raise invalid(f"after: there is no item {str(page.after)[:80]!r} in this response", "after")
        ids = [item["id"] for item in found.items]
        return _json(ItemList(found.items, found.has_more, ids[0] if ids else None, ids[-1] if ids else None))

    # --- inside

    async def _pass(self, http: web.Request, asked: Asked, caller: Caller, arrived: float) -> web.StreamResponse:
        """A response that is not kept."""
        engine = self._engine
        answer = await engine.submit(await asked.draft(), shares_id=asked.shares_id, caller=caller)
        origin = Origin(asked.model or engine.model, int(time.time()), lambda: time.perf_counter() - arrived)
        outlet = Outlet(http, engine.limits, lambda: answer.unsent)
        outlet.note(answer)
        with engine.outlets.using(outlet):
            rendering = asked.rendering(answer, origin)
            return await respond(outlet, engine, answer, rendering, arrived=arrived, stream=asked.stream)

    async def _whole(self, outlet: Outlet, tail: Tail) -> web.StreamResponse:
        await self._over(tail)
        match tail.entries[-1].entry:
            case End(fault=fault) if fault is not None:
                raise error_of(fault)
            case _:
                stored = self._stored.read(tail)
                outlet.note(stored.answer)
                return await send_json(outlet, msgspec.json.encode(stored.response))

    async def _over(self, tail: Tail) -> None:
        """Wait for the end of a response. Raises ApiError 404 where it is deleted meanwhile."""
        with tail.reading():
            try:
                while not tail.is_over:
                    await tail.beyond(len(tail.entries))
            except Missing:
                pass
        if tail.is_gone:
            raise ApiError(404, f"{tail.record.answer_id} was deleted: send the request again", code="not_found")


def _unstored(body: dict[str, Any], request: ResponsesRequest) -> dict[str, Any]:
    """The request on a server that keeps no responses. Raises ApiError 400 where it asks for one to be kept."""
    for name in ("store", "background", "resumable", "previous_response_id"):
        if getattr(request, name):
            message = f"{name}: this server keeps no responses (--response-keep is 0): send the whole conversation"
            raise invalid(message, name, "unsupported_parameter")
    return {**body, "store": False}


def _number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise invalid(f"{name} must be an integer between {low} and {high}, not {text[:80]!r}", name)
    return int(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise invalid(f"{name} must be true or false, not {text[:80]!r}", name)
    return text in ("true", "1")


def _json(body: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
