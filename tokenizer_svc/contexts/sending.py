"""How a client is told of a call: events as it goes on, or one body at its end."""

from __future__ import annotations

import msgspec
import structlog
from aiohttp import web

from tokenizer_svc import access_log
from tokenizer_svc.answers import Answer
from tokenizer_svc.api_error import ApiError, error_event
from tokenizer_svc.contexts.shapes import Delta, Ended, Result
from tokenizer_svc.limits import Limits
from tokenizer_svc.outlet import Outlet
from tokenizer_svc.sse import DONE, HEADERS, event

log = structlog.get_logger("http")

_encode = msgspec.json.Encoder().encode


class Silent:
    """A client who waits for the end."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def watch(self, answer: Answer) -> None:
        access_log.note(self._request, answer)

    async def wrote(self, deltas: list[Delta]) -> None:
        """It is told at the end."""

    async def ended(self, result: Result) -> None:
        """Likewise."""


class Stream:
    """A client who is told as it goes on. Headers go out with the first event, so that refusals keep their status."""

    def __init__(self, request: web.Request, limits: Limits, id: str) -> None:
        self.outlet = Outlet(request, limits, lambda: 0 if self._watched is None else self._watched.unsent)
        self.response: web.StreamResponse | None = None
        self._request = request
        self._id = id
        self._watched: Answer | None = None

    def watch(self, answer: Answer) -> None:
        self._watched = answer
        access_log.note(self._request, answer)

    async def wrote(self, deltas: list[Delta]) -> None:
        await self._send(b"".join([event(_encode(delta)) for delta in deltas]))

    async def ended(self, result: Result) -> None:
        await self._send(event(_encode(Ended(id=self._id, part=result.part, name=result.name, result=result))))

    async def finish(self, answer: bytes) -> web.StreamResponse:
        """The last events of a call that went well."""
        response = await self._send(event(answer) + DONE)
        await response.write_eof()
        return response

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """The last event of one that did not. Raises it where nothing was sent yet."""
        if self.response is None:
            raise error
        response = await self._send(error_event(error))
        await response.write_eof()
        return response

    async def _send(self, data: bytes) -> web.StreamResponse:
        if self.response is None:
            self.response = await self.outlet.open(HEADERS)
        await self.outlet.write(self.response, data)
        return self.response
