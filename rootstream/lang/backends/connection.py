"""One HTTP/1.1 connection of a client, on which one request is answered at a time.

The parsing is llhttp's, by httptools; what is added are bounds, and what the end of a connection means. Knows nothing
of other connections, nor of what is asked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import httptools

HEAD_BYTES = 64 * 2**10
BODY_BYTES = 2**30
_ERROR_BYTES = 2**20


class Answer(NamedTuple):
    """A whole response. The body is empty where it was handed out as it came."""

    status: int
    headers: Mapping[bytes, bytes]  # names in lower case
    body: bytes


class Broken(ConnectionError):
    """The connection ended, or said something that is no HTTP, before the answer was whole."""


OnData = Callable[[bytes], None]


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._on_data: OnData | None = None
        self._headers: dict[bytes, bytes] = {}
        self._head = 0
        self._in_body = False
        self._body: list[bytes] = []
        self._size = 0
        self.idle_since = 0.0
        self.reusable = False  # for another request
        self.used = False  # for a request before
        self.heard = False  # something of the answer to the present request

    def ask(self, request: bytes, on_data: OnData | None) -> asyncio.Future[Answer]:
        """Send a request; ``on_data`` gets the body of a good answer as it comes. The future raises Broken, or
        whatever on_data raises.
        """
        assert self._transport is not None
        assert self._waiting is None
        self._waiting = asyncio.get_running_loop().create_future()
        self._on_data = on_data
        self.reusable = self.heard = False
        self._transport.write(request)
        return self._waiting

    def abort(self) -> None:
        """End it, whatever is under way."""
        self.reusable = False
        self._waiting = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End it in order; for connections on which nothing is under way."""
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    # What asyncio tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.reusable = True
        opened = transport.get_extra_info("socket")
        if opened is not None and opened.family != socket.AF_UNIX:
            _keep_alive(opened)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # nobody asked: a server that says goodbye
            self.abort()
            return
        self.heard = True
        if not self._in_body:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(_cause(error))
        except httptools.HttpParserUpgrade:
            self._fail(Broken("the server wants to speak another protocol"))
        if not self._in_body and self._head > HEAD_BYTES:
            self._fail(Broken(f"the headers are longer than {HEAD_BYTES} bytes"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waiting is None:
            return
        ends_here = self._in_body and not {b"content-length", b"transfer-encoding"} & self._headers.keys()
        if ends_here and exc is None:
            self._complete()
        else:
            self._fail(Broken(f"the connection was cut before the answer was whole{f': {exc}' if exc else ''}"))

    # What the parser tells us

    def on_message_begin(self) -> None:
        if self._waiting is None:  # a second answer to one request: nobody knows to whom it belongs
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # trailers tell us nothing
            self._headers[name.lower()] = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        self._in_body = True
        if self._parser.get_status_code() != 200:
            self._on_data = None

    def on_body(self, data: bytes) -> None:
        if self._on_data is not None:
            self._on_data(data)
            return
        self._size += len(data)
        if self._size > BODY_BYTES or (self._size > _ERROR_BYTES and self._parser.get_status_code() != 200):
            raise Broken(f"an answer of more than {self._size} bytes")
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._waiting is None:
            return
        if not self._in_body:  # 100 Continue and its like: the answer is yet to come
            self._headers = {}
            self._head = 0
            return
        assert self._transport is not None
        # An answer that came before all was sent is the last one: the rest would be read as the next request.
        self.reusable = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
        self._complete()

    def _complete(self) -> None:
        waiting, self._waiting = self._waiting, None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        answer = Answer(self._parser.get_status_code(), self._headers, body)
        self._headers, self._body = {}, []
        self._head, self._size, self._in_body = 0, 0, False
        self._on_data = None
        self.used = True
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: BaseException) -> None:
        waiting = self._waiting
        self.abort()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _cause(error: httptools.HttpParserError) -> BaseException:
    """What a callback of ours raised, or that this is no HTTP."""
    if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
        return error.__context__
    return Broken(f"the server does not speak HTTP: {error}")


def _keep_alive(opened: socket.socket) -> None:
    """An answer may take as long as it likes, but a machine that is gone must be noticed: after a minute."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
