"""From an answer to bytes on a connection: streamed as it comes, or whole at its end.

Headers go out with the first word from the scheduler, so that refusals keep their status. A client that
leaves cancels its request: the answer is abandoned on every way out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from aiohttp import web

from shared.protocol import Finish
from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.api_error import ApiError, internal, of_failure
from tokenizer_svc.engine import Engine
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.sse import HEADERS, event

log = structlog.get_logger("http")


class Rendering(Protocol):
    """The shape that one API gives to an answer."""

    def opening(self) -> bytes:
        """The first events of a stream."""
        ...

    def piece(self, piece: Piece) -> bytes:
        """The events for one piece; called for every piece in order."""
        ...

    def closing(self) -> bytes:
        """The last events of a stream that went well."""
        ...

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> bytes:
        """The body of an answer that is no stream, from text and tokens by choice."""
        ...


async def respond(
    request: web.Request, engine: Engine, answer: Answer, rendering: Rendering, *, arrived: float, stream: bool
) -> web.StreamResponse:
    """Serve one answer. Raises ApiError if it fails before anything was sent."""
    timing = _Timing(engine.metrics, answer, arrived)
    try:
        await answer.started()
        timing.admitted()
        if answer.failed is not None:
            raise of_failure(answer.failed, engine.retry_after_s)
        if stream:
            return await _stream(request, engine, answer, rendering, timing)
        return await _whole(engine, answer, rendering, timing)
    finally:
        if not answer.is_over:
            engine.metrics.disconnects.inc()
        engine.abandon(answer)
        timing.over()


async def _whole(engine: Engine, answer: Answer, rendering: Rendering, timing: _Timing) -> web.Response:
    texts: list[list[str]] = [[] for _ in answer.choices]
    tokens: list[list[int]] = [[] for _ in answer.choices]
    over = False
    while not over:
        pieces = await answer.pieces()
        over = answer.is_over
        timing.received(pieces)
        for piece in pieces:
            texts[piece.choice.index].append(piece.text)
            tokens[piece.choice.index] += piece.tokens
    if answer.failed is not None:
        raise of_failure(answer.failed, engine.retry_after_s)
    body = rendering.whole(["".join(parts) for parts in texts], tokens)
    return web.Response(body=body, content_type="application/json")


async def _stream(
    request: web.Request, engine: Engine, answer: Answer, rendering: Rendering, timing: _Timing
) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    try:
        await response.prepare(request)
        await response.write(rendering.opening())
        over = False
        while not over:
            pieces = await answer.pieces()
            over = answer.is_over
            timing.received(pieces)
            events = b"".join([rendering.piece(piece) for piece in pieces])
            if over:
                events += _end(engine, answer, rendering)
            if events:
                await response.write(events)  # all tokens of one batch in one packet
        await response.write_eof()
    except ConnectionError:
        log.debug("client left", request=f"{answer.id:016x}")
    except Exception:
        log.exception("stream failed", request=f"{answer.id:016x}")
        await response.write(_error(internal("the stream failed inside the server: send the request again")))
    return response


def _end(engine: Engine, answer: Answer, rendering: Rendering) -> bytes:
    if answer.failed is None:
        return rendering.closing()
    return _error(of_failure(answer.failed, engine.retry_after_s))


def _error(error: ApiError) -> bytes:
    return event(error.json())


class _Timing:
    """What one answer adds to the metrics."""

    def __init__(self, metrics: Metrics, answer: Answer, arrived: float) -> None:
        self._metrics = metrics
        self._answer = answer
        self._arrived = arrived
        self._announced = time.perf_counter()
        self._last: dict[int, float] = {}

    def admitted(self) -> None:
        self._metrics.admission.observe(time.perf_counter() - self._announced)

    def received(self, pieces: Sequence[Piece]) -> None:
        now = time.perf_counter()
        for piece in pieces:
            if not piece.tokens:
                continue
            last = self._last.get(piece.choice.index)
            if last is None:
                self._metrics.ttft.observe(now - self._arrived)
            else:
                self._metrics.itl.observe((now - last) / len(piece.tokens))
            self._last[piece.choice.index] = now

    def over(self) -> None:
        self._metrics.e2e.observe(time.perf_counter() - self._arrived)
        for choice in self._answer.choices:
            self._metrics.generated_tokens.inc(choice.completion_tokens)
            self._metrics.forced_tokens.inc(choice.forced_tokens)
            reason = "unfinished" if choice.finish is Finish.NONE else choice.finish.name.lower()
            self._metrics.finished.labels("failed" if self._answer.failed else reason).inc()
