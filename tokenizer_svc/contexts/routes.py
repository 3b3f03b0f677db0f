"""The routes of contexts: go on from one, look at one, let one go."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import msgspec
import structlog
from aiohttp import web
from msgspec import UNSET

from tokenizer_svc.access.guard import caller_of, tenant_of
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.api_error import ApiError, internal
from tokenizer_svc.body import read_object
from tokenizer_svc.contexts.calls import Calls, digest_of
from tokenizer_svc.contexts.listener import Listener
from tokenizer_svc.contexts.request import Asked, check_id, read_request
from tokenizer_svc.contexts.running import Names, Run
from tokenizer_svc.contexts.sending import Silent, Stream
from tokenizer_svc.contexts.shapes import ContextAnswer, ContextBody, DroppedContext
from tokenizer_svc.contexts.state import State
from tokenizer_svc.contexts.store import Claimed, Contexts, Kept, Name
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import check_model
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.replying import as_json
from tokenizer_svc.responding import send_json

log = structlog.get_logger("http")

CONTEXTS = "/v1/contexts"
_RESULT_S = 60  # for which the answer of a call is kept from whose context nothing will go on


class ContextRoutes:
    """POST, GET and DELETE."""

    def __init__(self, engine: Engine, contexts: Contexts) -> None:
        self._engine = engine
        self._contexts = contexts
        self._calls = Calls(contexts, engine.limits.context_keep_s)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post(CONTEXTS, self.post)
        router.add_get(f"{CONTEXTS}/{{context_id}}", self.get, allow_head=False)
        router.add_delete(f"{CONTEXTS}/{{context_id}}", self.delete)

    # --- a call

    async def post(self, http: web.Request) -> web.StreamResponse:
        """Go on from a context."""
        engine = self._engine
        body = await read_object(http, engine.limits)
        asked = read_request(body, engine.limits)
        check_model(asked.request.model, engine)
        caller = caller_of(http, asked.request.user)
        name = Name(caller.tenant, asked.request.id or f"ctx-{secrets.token_hex(16)}")
        claim = await self._calls.begin(name, digest_of(body)) if asked.request.id else None
        if isinstance(claim, Kept):
            return await self._send(http, asked, name, claim.answer)
        if claim is None:
            return await self._answer(http, asked, name, caller, None)
        async with self._calls.holding(name, claim):
            return await self._answer(http, asked, name, caller, claim)

    async def _answer(
        self, http: web.Request, asked: Asked, name: Name, caller: Caller, claim: Claimed | None
    ) -> web.StreamResponse:
        if not asked.request.stream:
            answer = await self._computed(asked, name, caller, claim, Silent(http))
            return await self._send(http, asked, name, answer)
        stream = Stream(http, self._engine.limits, name.id)
        with self._engine.outlets.using(stream.outlet):
            try:
                return await stream.finish(await self._computed(asked, name, caller, claim, stream))
            except ConnectionError:
                log.debug("client left")
                if stream.response is None:
                    raise
                return stream.response
            except ApiError as error:
                return await stream.fail(error)
            except Exception:
                if stream.response is None:
                    raise
                log.exception("stream failed", context=name.id)
                return await stream.fail(internal("the stream failed inside the server: send the request again"))

    async def _send(self, http: web.Request, asked: Asked, name: Name, answer: bytes) -> web.StreamResponse:
        """An answer that is there, in the way that was asked for."""
        limits = self._engine.limits
        if asked.request.stream:
            stream = Stream(http, limits, name.id)
            with self._engine.outlets.using(stream.outlet):
                for result in msgspec.json.decode(answer, type=ContextAnswer).parts:
                    await stream.ended(result)
                return await stream.finish(answer)
        outlet = Outlet(http, limits)
        with self._engine.outlets.using(outlet):
            return await send_json(outlet, answer)

    async def _computed(
        self, asked: Asked, name: Name, caller: Caller, claim: Claimed | None, listener: Listener
    ) -> bytes:
        """The answer to a call, which is kept, too. Raises ApiError, and ConnectionError as the listener does."""
        engine, request = self._engine, asked.request
        if request.parent is None:
            state = State(tools=tuple(request.tools or ()), variables=request.chat_template_kwargs or {})
        else:
            state = await self._calls.parent(Name(name.tenant, request.parent))
        group = str(Name(name.tenant, request.group)) if request.group else ""
        run = Run(engine, asked, name.id, state, caller, Names(group, str(name) if asked.keeps else ""), listener)
        run.check()
        engine.check_room(caller)
        if claim is None:
            await run.run()
        else:
            await self._calls.wanted(name, claim, run.run())
        answer = msgspec.json.encode(self._body(asked, name, run))
        release = [Name(name.tenant, id) for id in request.release or ()]
        if asked.keeps or claim is not None:
            digest = b"" if claim is None else claim.digest
            seconds = engine.limits.context_keep_s if asked.keeps else _RESULT_S
            await self._contexts.keep(name, Kept(digest, answer, run.state if asked.keeps else None), seconds, release)
        else:
            await self._contexts.release(release)
        return answer

    def _body(self, asked: Asked, name: Name, run: Run) -> ContextAnswer:
        request, ids = asked.request, run.state.written.ids
        return ContextAnswer(
            id=name.id,
            created=int(time.time()),
            model=request.model or self._engine.model,
            parent=request.parent,
            parts=run.results,
            length=len(ids),
            token_ids=ids if request.return_token_ids else UNSET,
            usage=run.counts.usage,
        )

    # --- what is kept

    async def get(self, http: web.Request) -> web.Response:
        """What a context says."""
        name = self._named(http)
        match await self._contexts.find(name):
            case Kept(answer=answer, state=State() as state):
                fields: dict[str, Any] = msgspec.json.decode(answer)
                body = msgspec.convert(fields, ContextBody)
                return as_json(await asyncio.to_thread(self._told, body, state))
            case _:
                raise self._calls.missing(name.id, "context_id")

    def _told(self, body: ContextBody, state: State) -> ContextBody:
        if state.chat is not None:
            return msgspec.structs.replace(body, messages=state.chat.so_far)
        tokenizer = self._engine.tokenizer
        skipped = len(tokenizer.opening_ids) if state.is_raw else 0
        text = tokenizer.decode(state.written.ids[skipped:], skip_special_tokens=False)
        return msgspec.structs.replace(body, text=text)

    async def delete(self, http: web.Request) -> web.Response:
        """Let a context go."""
        name = self._named(http)
        [was_there] = await self._contexts.release([name])
        if not was_there:
            raise self._calls.missing(name.id, "context_id")
        return as_json(DroppedContext(id=name.id))

    def _named(self, http: web.Request) -> Name:
        id = http.match_info["context_id"]
        check_id(id, "context_id")
        return Name(tenant_of(http), id)
