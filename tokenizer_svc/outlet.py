"""One client's connection as bytes go out: bounded memory, and an end to it when the client does not read.

What waits for a client lies in the system's send buffer, in the transport, and in the answer; the first two are
bounded here, the third is told by whoever writes. A client that takes nothing for a while, or lets too much
pile up, is cut off. Knows nothing of events.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from aiohttp import web

from tokenizer_svc import access_log
from tokenizer_svc.answers import Answer
from tokenizer_svc.limits import Limits
from tokenizer_svc.metrics import Metrics

log = structlog.get_logger("http")

_SLICE = 32 * 1024  # bytes handed over at once
_LOOK_S = 0.1


class Outlet:
    """The way to one client."""

    def __init__(self, request: web.Request, limits: Limits, waiting: Callable[[], int] = lambda: 0) -> None:
        """``waiting``: bytes that pile up elsewhere for this client."""
        self._request = request
        self._transport = request.transport
        self._waiting = waiting
        self._unread = 0
        self._moved = time.monotonic()
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=_SLICE)
            self._set(socket.SO_SNDBUF, limits.send_buffer_bytes)

    def note(self, answer: Answer) -> None:
        """For the log: the answer that goes out here, as far as it has come when the connection ends."""
        access_log.note(self._request, answer)

    async def open(self, headers: Mapping[str, str], length: int | None = None) -> web.StreamResponse:
        """Send the headers of a response."""
        response = web.StreamResponse(headers=headers)
        response.content_length = length
        await response.prepare(self._request)
        return response

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send some bytes, waiting while the client takes none. Raises ConnectionError when it is gone."""
        view = memoryview(data)
        for start in range(0, len(data), _SLICE):
            await response.write(view[start : start + _SLICE])

    @property
    def unread(self) -> int:
        """Bytes that wait for the client."""
        if self._transport is None or self._transport.is_closing():
            return 0
        return self._transport.get_write_buffer_size() + self._waiting()

    def is_stuck(self, now: float, limits: Limits) -> bool:
        """Whether the client takes nothing, or too little."""
        if self._transport is None or self._transport.is_closing():
            return False
        unread = self._transport.get_write_buffer_size()
        if not unread or unread != self._unread:
            self._unread, self._moved = unread, now
        is_full = unread + self._waiting() > limits.unread_bytes
        return unread > 0 and (is_full or now - self._moved > limits.unread_s)

    def cut(self) -> None:
        """End the connection at once; what waits to be sent is dropped, in the system's buffer too."""
        if self._transport is not None:
            self._set(socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _set(self, option: int, value: int | bytes) -> None:
        if self._transport is not None:
            connection: Any = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, option, value)


class Outlets:
    """All connections that answers go out on."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._open: set[Outlet] = set()
        metrics.unread.set_function(lambda: sum(outlet.unread for outlet in self._open))

    @contextmanager
    def using(self, outlet: Outlet) -> Generator[None]:
        """Watch over a connection while an answer goes out on it."""
        self._open.add(outlet)
        try:
            yield
        finally:
            self._open.discard(outlet)

    async def watch(self) -> None:
        """Cut off who does not read, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for outlet in [each for each in self._open if each.is_stuck(now, self._limits)]:
                log.warning("a client that does not read is cut off")
                self._metrics.cut_off.inc()
                outlet.cut()
                self._open.discard(outlet)
