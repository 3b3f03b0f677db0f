"""The HTTP application: routes for generation, errors in OpenAI's shape, request ids.

Knows nothing of streams: everything goes through :class:`~tokenizer_svc.engine.Engine`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tokenizer_svc.access.guard import Access, caller_of, guard, sharing
from tokenizer_svc.admin import OperatorRoutes, PublicRoutes
from tokenizer_svc.answers import Answer
from tokenizer_svc.api_error import ApiError, internal
from tokenizer_svc.body import read_object
from tokenizer_svc.engine import Engine
from tokenizer_svc.generate import draft_generate, read_generate, values_of
from tokenizer_svc.native_answers import NativeAnswers
from tokenizer_svc.openai import draft_chat, draft_completion, read_chat, read_completion
from tokenizer_svc.openai_answers import ChatAnswers, CompletionAnswers
from tokenizer_svc.openapi import OpenApiRoute
from tokenizer_svc.responding import respond
from tokenizer_svc.tools.answers import ToolAnswers
from tokenizer_svc.tools.toolbox import read_tools

log = structlog.get_logger("http")

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_SANE_ID = re.compile(r"[\w.:-]{1,128}")


def build_app(engine: Engine, access: Access, *, with_admin: bool = True) -> web.Application:
    """The clients' routes over one engine; with the operators' routes, unless those have a port of their own."""
    app = _bare_app(engine, access)
    routes = GenerationRoutes(engine)
    app.router.add_post("/v1/chat/completions", routes.chat)
    app.router.add_post("/v1/completions", routes.completions)
    app.router.add_post("/generate", routes.generate)
    PublicRoutes(engine).add_to(app.router)
    OpenApiRoute(engine).add_to(app.router)
    if with_admin:
        OperatorRoutes(engine).add_to(app.router)
    return app


def build_admin_app(engine: Engine, access: Access) -> web.Application:
    """The operators' routes on a port of their own."""
    app = _bare_app(engine, access)
    PublicRoutes(engine).add_to(app.router)
    OpenApiRoute(engine).add_to(app.router)
    OperatorRoutes(engine).add_to(app.router)
    return app


def _bare_app(engine: Engine, access: Access) -> web.Application:
    middlewares = [_errors_and_ids(engine), guard(access)]
    app = web.Application(middlewares=middlewares, client_max_size=engine.limits.body_bytes)
    app.on_response_prepare.append(_name_request)
    app.on_response_prepare.append(sharing(access))
    app.on_response_prepare.append(_closing(engine))
    return app


class GenerationRoutes:
    """The three ways to ask for text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        arrived = time.perf_counter()
        engine = self._engine
        asked = read_chat(await read_object(request, engine.limits), engine)
        engine.check_room()
        toolbox = read_tools(asked, engine.limits)
        answer = await engine.submit(
            await draft_chat(asked, engine, toolbox), shares_id=True, caller=caller_of(request, asked.user)
        )
        _log_accepted(answer, asked.user)
        tools = None if toolbox is None else ToolAnswers(answer, engine.tool_format, toolbox)
        shape = ChatAnswers(answer, engine.model, int(time.time()), include_usage=asked.include_usage, tools=tools)
        return await respond(request, engine, answer, shape, arrived=arrived, stream=bool(asked.stream))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        arrived = time.perf_counter()
        engine = self._engine
        asked = read_completion(await read_object(request, engine.limits), engine)
        engine.check_room()
        answer = await engine.submit(
            await draft_completion(asked, engine), shares_id=True, caller=caller_of(request, asked.user)
        )
        _log_accepted(answer, asked.user)
        shape = CompletionAnswers(answer, engine.model, int(time.time()), include_usage=asked.include_usage)
        return await respond(request, engine, answer, shape, arrived=arrived, stream=bool(asked.stream))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /generate."""
        arrived = time.perf_counter()
        engine = self._engine
        asked = read_generate(await read_object(request, engine.limits), engine)
        engine.check_room()
        answer = await engine.submit(
            await draft_generate(asked, engine), shares_id=False, caller=caller_of(request, None)
        )
        _log_accepted(answer, None)
        shape = NativeAnswers(answer, arrived, is_single=asked.is_single, open_values=values_of(asked, engine))
        return await respond(request, engine, answer, shape, arrived=arrived, stream=bool(asked.request.stream))


def _log_accepted(answer: Answer, user: str | None) -> None:
    """Say who asked for what, without a word of the prompt."""
    log.debug(
        "accepted",
        request=_request_id.get(),
        ids=[f"{choice.id:016x}" for choice in answer.choices],
        prompt_tokens=answer.choices[0].prompt_tokens,
        user=user,
    )


def _errors_and_ids(engine: Engine) -> Middleware:
    """Give every request an id, every error OpenAI's shape, and count both."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("X-Request-Id", "")
        _request_id.set(asked if _SANE_ID.fullmatch(asked) else uuid.uuid4().hex)
        status = 499  # the client left; nginx's number for it
        try:
            response = await _answer(request, handler)
            status = response.status
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            engine.metrics.requests.labels(route, str(status)).inc()
        return response

    return middleware


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return _error_response(error)
    except web.HTTPException as refused:
        return _error_response(_of_http(refused, request), refused.headers.get("Allow"))
    except Exception:
        log.exception("request failed", request=_request_id.get(), path=request.path)
        return _error_response(internal(f"the server failed; its log has the reason under {_request_id.get()}"))


def _error_response(error: ApiError, allow: str | None = None) -> web.Response:
    headers = error.headers if allow is None else {**error.headers, "Allow": allow}
    return web.Response(status=error.status, body=error.json(), content_type="application/json", headers=headers)


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
    del request
    response.headers["X-Request-Id"] = _request_id.get()
    response.headers["Server"] = "rootstream"
