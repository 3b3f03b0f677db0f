"""The HTTP application: routes for generation, errors in the shape of each API, request ids.

Knows nothing of streams: everything goes through :class:`~tokenizer_svc.engine.Engine`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shared.tracing import Tracing
from tokenizer_svc import access_log
from tokenizer_svc.access.guard import Access, caller_of, guard, sharing
from tokenizer_svc.admin import OperatorRoutes, PublicRoutes
from tokenizer_svc.answers import Answer
from tokenizer_svc.anthropic_api.errors import error_json, is_anthropic
from tokenizer_svc.anthropic_api.routes import MessagesRoutes
from tokenizer_svc.api_error import ApiError, internal
from tokenizer_svc.asked import DIRECT, Asked
from tokenizer_svc.body import read_object
from tokenizer_svc.contexts.routes import ContextRoutes
from tokenizer_svc.contexts.store import Contexts
from tokenizer_svc.embeddings import EmbeddingRoutes
from tokenizer_svc.engine import Engine
from tokenizer_svc.openapi import OpenApiRoute
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.pages.routes import PageRoutes
from tokenizer_svc.rendering import Origin
from tokenizer_svc.responding import respond
from tokenizer_svc.responses_api.errors import is_responses, of_chat
from tokenizer_svc.responses_api.routes import ResponsesRoutes
from tokenizer_svc.resumable.resumables import Opened, Resumables
from tokenizer_svc.resuming import LAST_EVENT_ID, Resuming, Wish, canonical, read_wish
from tokenizer_svc.scoring import ScoreRoutes
from tokenizer_svc.tokenising import TokenRoutes
from tokenizer_svc.tracing import traced

log = structlog.get_logger("http")

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_SANE_ID = re.compile(r"[\w.:-]{1,128}")


def build_app(
    engine: Engine,
    access: Access,
    resumables: Resumables,
    contexts: Contexts,
    *,
    with_admin: bool = True,
    tracing: Tracing | None = None,
) -> web.Application:
    """The clients' routes over one engine; with the operators' routes, unless those have a port of their own."""
    app = _bare_app(engine, access, () if tracing is None else (traced(tracing),))
    resuming = Resuming(engine, resumables)
    routes = GenerationRoutes(engine, resuming)
    for path in DIRECT:
        app.router.add_post(path, routes.post)
    resuming.add_to(app.router)
    ResponsesRoutes(engine, resumables, resuming).add_to(app.router)
    MessagesRoutes(engine).add_to(app.router)
    ContextRoutes(engine, contexts).add_to(app.router)
    PublicRoutes(engine).add_to(app.router)
    TokenRoutes(engine).add_to(app.router)
    EmbeddingRoutes(engine).add_to(app.router)
    ScoreRoutes(engine).add_to(app.router)
    OpenApiRoute(engine).add_to(app.router)
    PageRoutes().add_to(app.router)
    if with_admin:
        OperatorRoutes(engine).add_to(app.router)
    return app


def build_admin_app(engine: Engine, access: Access) -> web.Application:
    """The operators' routes on a port of their own."""
    app = _bare_app(engine, access)
    PublicRoutes(engine).add_to(app.router)
    OpenApiRoute(engine).add_to(app.router)
    PageRoutes().add_to(app.router, with_chat=False)
    OperatorRoutes(engine).add_to(app.router)
    return app


def _bare_app(engine: Engine, access: Access, outer: Sequence[Middleware] = ()) -> web.Application:
    middlewares = [*outer, _errors_and_ids(engine), guard(access), _furnished(engine)]
    app = web.Application(middlewares=middlewares, client_max_size=engine.limits.body_bytes)
    app.on_response_prepare.append(_name_request)
    app.on_response_prepare.append(sharing(access))
    app.on_response_prepare.append(_closing(engine))
    return app


class GenerationRoutes:
    """The three ways to ask for text."""

    def __init__(self, engine: Engine, resuming: Resuming) -> None:
        self._engine = engine
        self._resuming = resuming

    async def post(self, request: web.Request) -> web.StreamResponse:
        """POST on the path of one of the APIs."""
        arrived = time.perf_counter()
        engine, path = self._engine, request.path
        body = await read_object(request, engine.limits)
        asked = DIRECT[path](body, engine)
        wish = read_wish(request.headers, asked)
        caller = caller_of(request, asked.user)
        last = request.headers.get(LAST_EVENT_ID)
        if last is None:  # who comes back has its place
            engine.check_room(caller)
        if wish.resumable or wish.background or last is not None:
            return await self._keep(request, asked, wish, Opened(path, canonical(body), caller, arrived))
        answer = await engine.submit(await asked.draft(), shares_id=asked.shares_id, caller=caller)
        _log_accepted(answer, asked)
        origin = Origin(asked.model or engine.model, int(time.time()), lambda: time.perf_counter() - arrived)
        rendering = asked.rendering(answer, origin)
        outlet = Outlet(request, engine.limits, lambda: answer.unsent)
        outlet.note(answer)
        with engine.outlets.using(outlet):
            return await respond(outlet, engine, answer, rendering, arrived=arrived, stream=asked.stream)

    async def _keep(self, request: web.Request, asked: Asked, wish: Wish, opened: Opened) -> web.StreamResponse:
        outlet = Outlet(request, self._engine.limits)
        with self._engine.outlets.using(outlet):
            last = request.headers.get(LAST_EVENT_ID)
            if last is not None:
                return await self._resuming.again(outlet, opened, last)
            return await self._resuming.begin(outlet, asked, wish, opened)


def _log_accepted(answer: Answer, asked: Asked) -> None:
    """Say who asked for what, without a word of the prompt."""
    log.debug(
        "accepted",
        request=_request_id.get(),
        ids=[f"{choice.id:016x}" for choice in answer.choices],
        prompt_tokens=answer.choices[0].prompt_tokens,
        user=asked.user,
        metadata=asked.metadata,
    )


def _errors_and_ids(engine: Engine) -> Middleware:
    """Give every request an id, every error the shape of its API, and count both."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("X-Request-Id", "")
        _request_id.set(asked if _SANE_ID.fullmatch(asked) else uuid.uuid4().hex)
        began = time.perf_counter()
        status = 499  # the client left; nginx's number for it
        try:
            response = await _answer(request, handler)
            status = response.status
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            engine.metrics.requests.labels(route, str(status)).inc()
            access_log.write(request, _request_id.get(), route, status, began)
        return response

    return middleware


def _furnished(engine: Engine) -> Middleware:
    """Who sends text before the tokenizer is there waits for it a while, and does not notice how new the process is."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST":
            await engine.furnished()
        return await handler(request)

    return middleware


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return _error_response(error, request)
    except web.HTTPException as refused:
        return _error_response(_of_http(refused, request), request, refused.headers.get("Allow"))
    except Exception:
        log.exception("request failed", request=_request_id.get(), path=request.path)
        error = internal(f"the server failed; its log has the reason under {_request_id.get()}")
        return _error_response(error, request)


def _error_response(error: ApiError, request: web.Request, allow: str | None = None) -> web.Response:
    headers = error.headers if allow is None else {**error.headers, "Allow": allow}
    if is_responses(request.path):
        error = of_chat(error)
    body = error_json(error, _request_id.get()) if is_anthropic(request.path) else error.json()
    return web.Response(status=error.status, body=body, content_type="application/json", headers=headers)


def _of_http(refused: web.HTTPException, request: web.Request) -> ApiError:
    match refused.status:
        case 404:
            return ApiError(404, f"there is no {request.path} here: see /server_info", code="not_found")
        case 405:
            allowed = refused.headers.get("Allow", "")
            message = f"{request.path} does not take {request.method}: use {allowed}"
            return ApiError(405, message, code="method_not_allowed")
        case _:
            return ApiError(refused.status, refused.reason, code="http_error")


def _closing(engine: Engine) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Nobody should send another request to a process that is about to end."""

    async def close(request: web.Request, response: web.StreamResponse) -> None:
        del request
        if engine.is_stopping:
            response.force_close()
            response.headers["Connection"] = "close"

    return close


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = _request_id.get()
    if is_anthropic(request.path):
        response.headers["request-id"] = _request_id.get()  # Anthropic's clients look for it
    response.headers["Server"] = "rootstream"
