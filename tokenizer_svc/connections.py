"""The open connections of one port: how many there may be, and how long one may take over a request's headers.

aiohttp bounds neither. Each of its protocols is wrapped here; what it does with the bytes is its own business. Knows
nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tokenizer_svc.api_error import unavailable
from tokenizer_svc.limits import Limits


def _refusal() -> bytes:
    """What is sent before anything was read."""
    body = unavailable("too many connections are open: try again in a moment", 1).json()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connections:
    """All connections of one port.

    Where there are as many as there may be, the one that has been idle the longest makes room for a new one, so that
    nobody can keep others out by just being there; where none is idle, the new one is refused.
    """

    def __init__(self, limits: Limits) -> None:
        self.header_s = limits.header_s
        self._most = limits.connections
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._idle: dict[_Connection, None] = {}  # the longest first

    def __len__(self) -> int:
        return len(self._open)

    @property
    def busy(self) -> int:
        """On how many a request is being answered."""
        return len(self._open) - len(self._idle)

    @property
    def new(self) -> int:
        """On how many no request has come yet."""
        return sum(connection.is_new for connection in self._idle)

    def wrapped(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols that are counted and timed."""
        return lambda: _Connection(make(), self)

    def middleware(self) -> Middleware:
        """What tells us that a request's headers are there, and when it is answered: must come before all others."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = None if request.transport is None else self._open.get(request.transport)
            if connection is None:  # lost meanwhile
                return await handler(request)
            self._idle.pop(connection, None)
            connection.arrived()
            try:
                return await handler(request)
            finally:
                connection.answered()
                if connection.transport in self._open:
                    self._idle[connection] = None

        return middleware

    def opened(self, connection: _Connection) -> bool:
        """Whether there is room for one more."""
        if len(self._open) >= self._most:
            if not self._idle:
                return False
            longest = next(iter(self._idle))
            self.lost(longest)
            longest.transport.abort()
        self._open[connection.transport] = connection
        self._idle[connection] = None
        return True

    def lost(self, connection: _Connection) -> None:
        self._open.pop(connection.transport, None)
        self._idle.pop(connection, None)


class _Connection(asyncio.Protocol):
    """One connection, before the protocol that reads it."""

    transport: asyncio.Transport

    def __init__(self, inner: asyncio.Protocol, all: Connections) -> None:
        self._inner = inner
        self._all = all
        self.is_new = True
        self._is_busy = False
        self._deadline: asyncio.TimerHandle | None = None  # of headers under way
        self._is_refused = False

    def arrived(self) -> None:
        self._is_busy, self.is_new = True, False
        self._stop_waiting()

    def answered(self) -> None:
        self._is_busy = False

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._all.opened(self):
            self._inner.connection_made(transport)
        else:
            self._is_refused = True
            self.transport.write(_refusal())
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._is_busy and self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(self._all.header_s, self.transport.abort)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._is_refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._all.lost(self)
        if not self._is_refused:
            self._inner.connection_lost(exc)
