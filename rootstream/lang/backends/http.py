"""A lean HTTP/1.1 client on asyncio: POST and GET over connections that are kept.

It is here for its cost: aiohttp's client takes 170 µs of CPU for a small request and its answer, this one about a
quarter of that. Knows nothing of what is asked. No proxies, redirects, cookies or compression: an API needs none.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from rootstream.lang.backends.connection import Answer, Broken, Connection, OnData

CONNECT_S = 10.0
_CONNECTING = 64  # at once: more would overflow the queue of a listening socket
_IDLE_S = 30.0  # after which a connection is not used again: servers close idle ones, ours after 75 s


class Unreachable(ConnectionError):
    """No connection: nothing was sent."""


class NoUrl(ValueError):
    """Not the address of a server."""


class Address(NamedTuple):
    """Where a server is."""

    secure: bool
    host: str
    port: int
    path: str  # before every path

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises NoUrl."""
        explained = f"{url!r} is no URL of a server: write for example http://127.0.0.1:30000"
        try:
            parts: SplitResult = urlsplit(url)
            port = parts.port
        except ValueError:
            raise NoUrl(explained) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
            raise NoUrl(explained)
        if not url.isascii() or any(character.isspace() for character in url):
            raise NoUrl(explained)
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """To be tried in turn. localhost is the loopback (RFC 6761): asking would start asyncio's threads."""
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host,)


class Connections:
    """All connections to one server, for one event loop. The one used last is used first; idle ones are dropped."""

    def __init__(
        self, address: Address, headers: Mapping[str, str], most: int = 1000, tls: ssl.SSLContext | None = None
    ) -> None:
        """``most``: how many there may be at once; further requests wait. ``tls``: for an address that is secure."""
        self._to = address
        self._tls = tls
        lines = {"Host": address.host_header, "Accept-Encoding": "identity", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._heads: dict[str, bytes] = {}
        self._idle: list[Connection] = []
        self._free = most
        self._queue: deque[asyncio.Future[None]] = deque()
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._closed = False

    async def post(self, path: str, body: bytes, on_data: OnData | None = None) -> Answer:
        """Send JSON. ``on_data`` gets the body of an answer with status 200 as it comes.

        Raises Unreachable, Broken, and what on_data raises. Cancelling it ends the connection.
        """
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._head("POST", path, "Content-Type: application/json\r\nContent-Length: ")
        return await self._exchange(b"%b%d\r\n\r\n%b" % (head, len(body), body), on_data)

    async def get(self, path: str) -> Answer:
        """Raises Unreachable and Broken."""
        return await self._exchange(self._head("GET", path, "\r\n"), None)

    def close(self) -> None:
        """Those on which something is under way end when that does."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _head(self, method: str, path: str, more: str) -> bytes:
        return f"{method} {self._to.path}{path} HTTP/1.1\r\n{self._headers}{more}".encode("latin-1")

    async def _exchange(self, request: bytes, on_data: OnData | None) -> Answer:
        if self._free <= 0:
            await self._turn()
        self._free -= 1
        connection: Connection | None = None
        try:
            while True:
                connection = self._kept() or await self._connect()
                kept = connection.used
                try:
                    return await connection.ask(request, on_data)
                except Broken:
                    if connection.heard or not kept:
                        raise
                    # A server may close an idle connection just while we write on it: the next one is better.
        finally:
            if connection is not None:
                self._put_back(connection)
            self._free += 1
            self._wake()

    def _kept(self) -> Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and now - connection.idle_since < _IDLE_S:
                return connection
            connection.close()
        return None

    def _put_back(self, connection: Connection) -> None:
        if not connection.reusable:
            connection.abort()
        elif self._closed:
            connection.close()
        else:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
            oldest = self._idle[0]
            if not oldest.reusable or connection.idle_since - oldest.idle_since > _IDLE_S:
                del self._idle[0]
                oldest.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        failures: list[str] = []
        async with self._connecting:
            for host in self._to.hosts:
                name = self._to.host if self._tls else None
                try:
                    async with asyncio.timeout(CONNECT_S):
                        opened = loop.create_connection(
                            Connection, host, self._to.port, ssl=self._tls, server_hostname=name
                        )
                        _, connection = await opened
                    return connection
                except ssl.SSLError as error:
                    raise Unreachable(f"no safe connection to {self._to.host_header}: {error}") from error
                except TimeoutError:
                    failures.append(f"nothing for {CONNECT_S:g} s")
                except OSError as error:
                    failures.append(error.strerror or str(error))
        raise Unreachable(f"no server answers at {self._to.host_header}: {failures[0]}")

    async def _turn(self) -> None:
        """Wait while there are as many connections as there may be."""
        while self._free <= 0:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise

    def _wake(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
