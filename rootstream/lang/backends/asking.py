"""Asks one server, again where that is safe and worth it. Knows HTTP's failures, nothing of what is asked."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine
from typing import Protocol

from rootstream.lang.backends.connection import Answer, Broken, OnData
from rootstream.lang.backends.http import Address, Connections, NoUrl, Unreachable
from rootstream.lang.backends.refusals import refusal
from rootstream.lang.backends.retrying import Passing, Patience
from rootstream.lang.tracing.notes import note


class Reader(Protocol):
    """Reads a streamed answer. `push` and `end` may raise CallError: of the answer, or because it makes no sense."""

    @property
    def may_repeat(self) -> bool:
        """Whether the call may be made again although something of the answer came."""
        ...

    def push(self, chunk: bytes) -> None:
        """More of it."""
        ...

    def end(self) -> None:
        """There is no more. Passing where something is missing."""
        ...


Begin = Callable[[], Reader]
"""Called for each attempt, as each gets the answer from its beginning."""


class Asker:
    """Connections to a server in whatever event loop runs, and the patience with it."""

    def __init__(
        self, url: str, api_key: str | None, *, patience: float, connections: int, tls: ssl.SSLContext | None
    ) -> None:
        """``patience``: seconds for which a call that fails for a passing reason is made again; ``connections``: at
        most, further calls wait. Raises ValueError for what is no URL or no key.
        """
        self.url = url.rstrip("/").removesuffix("/v1")
        self._address = Address.of(self.url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise NoUrl("a key is made of printable ASCII characters: is there a line break at its end?")
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._patience_s = patience
        self._most = connections
        self._tls = (tls or ssl.create_default_context()) if self._address.secure else None
        self._rng = random.Random()  # noqa: S311 - for jitter
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: Connections | None = None
        self._known = False  # it has answered once

    async def post(self, path: str, body: bytes, *, until: float | None = None, begin: Begin | None = None) -> Answer:
        """An answer with status 200, whose body ``begin``'s reader got if there is one.

        ``until``: the loop's time after which nothing is tried again. Raises CallError, and what the reader raises;
        if that is Passing, the call is made again.
        """
        connections = self._connections()
        return await self._patiently(lambda on_data: connections.post(path, body, on_data), until, begin)

    async def get(self, path: str) -> Answer:
        """An answer with status 200. Raises CallError."""
        connections = self._connections()
        return await self._patiently(lambda _: connections.get(path), None, None)

    async def _patiently(
        self,
        send: Callable[[OnData | None], Coroutine[None, None, Answer]],
        until: float | None,
        begin: Begin | None,
    ) -> Answer:
        patience: Patience | None = None
        while True:
            reader = None if begin is None else begin()
            try:
                answer = await send(None if reader is None else reader.push)
                self._known = True
                if answer.status == 200:
                    if reader is not None:
                        reader.end()
                    return answer
                error = refusal(answer)
                if not isinstance(error, Passing):
                    raise error
            except (Unreachable, Broken) as broken:
                error = Passing(f"{self.url}: {broken}", code="connection")
            except Passing as passing:
                error = passing
            if reader is not None and not reader.may_repeat:
                raise error.final()
            if patience is None:
                patience = Patience(self._patience_s, until, self._rng)
            wait_s = patience.wait(asyncio.get_running_loop().time(), error, known=self._known)
            if wait_s is None:
                raise error.final(patience.failures)
            note("retry", attempt=patience.failures + 1, wait_s=wait_s, why=str(error.status or error))
            await asyncio.sleep(wait_s)

    def close(self) -> None:
        """Let go of connections; the next call makes new ones."""
        if self._open is not None:
            self._open.close()
        self._open = self._loop = None

    def _connections(self) -> Connections:
        loop = asyncio.get_running_loop()
        if self._open is None or loop is not self._loop:  # connections die with their loop
            self._loop = loop
            self._open = Connections(self._address, self._headers, self._most, self._tls)
        return self._open
