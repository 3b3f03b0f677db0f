"""What traces say of a request at the front door: the span that all others hang on, and the door's own parts of it.

Attributes go by OpenTelemetry's conventions for generative AI (`gen_ai.*`), latencies by the names that vLLM and SGLang
use; no word of a prompt or an answer is told. The request under way is found by its context, so that whoever does a
part of the work need not be handed it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shared.protocol import Finish
from shared.tracing import Attributes, Span, Tracing
from tokenizer_svc.access.gate import FOR_ANYONE
from tokenizer_svc.answers import Answer
from tokenizer_svc.draft import Draft

_OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/generate": "text_completion",
    "/v1/embeddings": "embeddings",
}
_UNTRACED = FOR_ANYONE | {"/metrics", "/health_generate"}
"""Probes, scrapes and static files: asked every few seconds, and nobody's request."""
_REFUSED = 400
_MAX_NAME = 512  # characters of a model's name that nobody has checked

_current: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)


class RequestTrace:
    """The span of one HTTP request, and what is told of its parts."""

    def __init__(self, tracing: Tracing, span: Span, operation: str | None) -> None:
        """``operation``: what is asked of a model, None where nothing is."""
        self._tracing = tracing
        self._span = span
        self._operation = operation

    @property
    def traceparent(self) -> str:
        return self._span.traceparent

    def record(self, name: str, start_ns: int, attributes: Attributes | None = None, failure: str = "") -> None:
        """A part of the work ends now."""
        if self.traceparent:
            self._tracing.record(name, self.traceparent, start_ns, time.time_ns(), attributes or {}, failure)

    def asks(self, name: str, *, is_served: bool) -> None:
        """Which model is asked, by the name that the request has for it."""
        if self._operation is None:
            return
        self._span.add({"gen_ai.request.model": name[:_MAX_NAME]})
        if is_served:
            self._span.add({"gen_ai.response.model": name})
            self._span.rename(f"{self._operation} {name}")

    def announced(self, drafts: Sequence[Draft], answer: Answer) -> None:
        """What is asked of the model."""
        sampling = drafts[0].sampling
        self._span.add(
            {
                "gen_ai.response.id": f"{answer.id:016x}",
                "gen_ai.request.choice.count": len(drafts),
                "gen_ai.request.max_tokens": sampling.max_tokens,
                "gen_ai.request.temperature": sampling.temperature,
                "gen_ai.request.top_p": sampling.top_p,
                "gen_ai.request.top_k": sampling.top_k,
                "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
                "gen_ai.request.presence_penalty": sampling.presence_penalty,
            }
        )

    def over(self, answer: Answer, first_s: float | None, whole_s: float) -> None:
        """What became of it. The numbers of a prompt that is continued several times count once."""
        prompts = {choice.prompt: choice for choice in reversed(answer.choices)}.values()
        told: dict[str, str | int | float | Sequence[str]] = {
            "gen_ai.usage.input_tokens": sum(choice.prompt_tokens for choice in prompts),
            "gen_ai.usage.cache_read.input_tokens": sum(choice.cached_tokens for choice in prompts),
            "gen_ai.usage.output_tokens": sum(choice.completion_tokens for choice in answer.choices),
            "gen_ai.response.finish_reasons": [
                "error" if choice.finish is Finish.NONE else choice.finish.name.lower() for choice in answer.choices
            ],
            "gen_ai.latency.e2e": whole_s,
        }
        if first_s is not None:
            told["gen_ai.latency.time_to_first_token"] = first_s
        self._span.add(told)


def current() -> RequestTrace | None:
    """The trace of the request that is worked for, None where there is none."""
    return _current.get()


@contextmanager
def part(name: str) -> Generator[None]:
    """A part of the work for the request under way."""
    trace = _current.get()
    if trace is None:
        yield
        return
    start_ns = time.time_ns()
    try:
        yield
    except BaseException as error:
        trace.record(name, start_ns, failure=type(error).__name__)
        raise
    trace.record(name, start_ns)


def traced(tracing: Tracing) -> Middleware:
    """A span for every request but probes and pages, as a child of what its `traceparent` says."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None or (route := resource.canonical) in _UNTRACED:
            return await handler(request)
        attributes: dict[str, str] = {"http.request.method": request.method, "http.route": route}
        name = f"{request.method} {route}"
        operation = _OPERATIONS.get(route) if request.method == "POST" else None
        if operation is not None:
            name = operation
            attributes |= {"gen_ai.operation.name": operation, "gen_ai.provider.name": "rootstream"}
        span = tracing.begin(name, request.headers, attributes)
        token = _current.set(RequestTrace(tracing, span, operation))
        failure = "disconnected"
        try:
            response = await handler(request)
            span.add({"http.response.status_code": response.status})
            failure = str(response.status) if response.status >= _REFUSED else ""
        finally:
            _current.reset(token)
            span.end(failure)
        return response

    return middleware
