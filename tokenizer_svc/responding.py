"""From an answer to bytes on a connection: streamed as it comes, or whole at its end.

Headers go out with the first word from the scheduler, so that refusals keep their status. A client that
leaves cancels its request: the answer is abandoned on every way out.
"""

from __future__ import annotations

import structlog
from aiohttp import web

from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.api_error import internal, of_failure
from tokenizer_svc.engine import Engine
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.rendering import Rendering, whole_from
from tokenizer_svc.sse import HEADERS
from tokenizer_svc.timing import Timing

log = structlog.get_logger("http")


async def respond(
    outlet: Outlet, engine: Engine, answer: Answer, rendering: Rendering, *, arrived: float, stream: bool
) -> web.StreamResponse:
    """Serve one answer. Raises ApiError if it fails before anything was sent."""
    timing = Timing(engine.metrics, answer, arrived)
    try:
        await answer.started()
        timing.admitted()
        if answer.failed is not None:
            raise of_failure(answer.failed, engine.retry_after_s)
        if stream:
            return await _stream(outlet, engine, answer, rendering, timing)
        return await _whole(outlet, engine, answer, rendering, timing)
    finally:
        if not answer.is_over:
            engine.metrics.disconnects.inc()
        engine.abandon(answer)
        timing.over()


async def _whole(
    outlet: Outlet, engine: Engine, answer: Answer, rendering: Rendering, timing: Timing
) -> web.StreamResponse:
    gathered: list[Piece] = []
    over = False
    while not over:
        pieces = await answer.pieces()
        over = answer.is_over
        timing.received(pieces)
        gathered += pieces
    if answer.failed is not None:
        raise of_failure(answer.failed, engine.retry_after_s)
    return await send_json(outlet, whole_from(answer, rendering, gathered))


async def send_json(outlet: Outlet, body: bytes) -> web.StreamResponse:
    """A whole body, as fast as the client takes it."""
    response = await outlet.open({"Content-Type": "application/json; charset=utf-8"}, len(body))
    try:
        await outlet.write(response, body)
        await response.write_eof()
    except ConnectionError:
        log.debug("client left")
    return response


async def _stream(
    outlet: Outlet, engine: Engine, answer: Answer, rendering: Rendering, timing: Timing
) -> web.StreamResponse:
    response = await outlet.open(HEADERS)
    try:
        await outlet.write(response, rendering.opening())
        over = False
        while not over:
            pieces = await answer.pieces()
            over = answer.is_over
            timing.received(pieces)
            events = b"".join([rendering.piece(piece) for piece in pieces])
            if over:
                events += _end(engine, answer, rendering)
            await outlet.write(response, events)  # all tokens of one batch in one packet
        await response.write_eof()
    except ConnectionError:
        log.debug("client left", request=f"{answer.id:016x}")
    except Exception:
        log.exception("stream failed", request=f"{answer.id:016x}")
        await response.write(rendering.failing(internal("the stream failed inside the server: send the request again")))
    return response


def _end(engine: Engine, answer: Answer, rendering: Rendering) -> bytes:
    if answer.failed is None:
        return rendering.closing()
    return rendering.failing(of_failure(answer.failed, engine.retry_after_s))
