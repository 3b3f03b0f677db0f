"""One client of one stream: reads server-sent events off a connection and writes down what it saw.

Knows how a connection can end; never judges what the events say.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

import aiohttp

from tests.chaos.history import RETRIED, Ask, Connection, Event, Outcome, Stream
from tests.chaos.sse import SseReader

_CONNECT_S = 5.0
_PROBE_S = 3.0
_AGAIN_S = 0.4  # between attempts to reach a front door


class Client:
    """Asks one request, over as many connections as a resumable one needs."""

    def __init__(self, http: aiohttp.ClientSession, url: str, ask: Ask, number: int, patience: float) -> None:
        """``patience``: seconds of silence after which a stream counts as hung."""
        self.stream = Stream(ask.name, number)
        self._http = http
        self._url = url
        self._ask = ask
        self._patience = patience
        self._cut_after: int | None = None  # bytes to read before our end is cut
        self._response: aiohttp.ClientResponse | None = None

    @property
    def is_streaming(self) -> bool:
        return self._response is not None and bool(self.stream.events)

    def cut(self, after: int) -> None:
        """Break the connection once this many more bytes have come."""
        self._cut_after = after

    async def run(self) -> Stream:
        """Ask, and read to the end; a resumable stream goes on where it was broken."""
        deadline = time.monotonic() + self._patience
        while True:
            connection = Connection(time.time(), self._last_id())
            self.stream.connections.append(connection)
            await self._exchange(connection)
            connection.ended = time.time()
            if not self._may_go_on(connection):
                if connection.outcome is Outcome.HUNG and self._last_id() is not None:
                    connection.detail += f"; {await self._kept()}"
                return self.stream
            if time.monotonic() > deadline:
                connection.outcome, connection.detail = Outcome.HUNG, "no front door continued it"
                return self.stream
            await asyncio.sleep(_AGAIN_S)

    async def _kept(self) -> str:
        """For people: what the server has of an answer whose stream stands still, asked from its start."""
        answer = (self._last_id() or "").rpartition(":")[0]
        reader, count = SseReader(), 0
        try:
            timeout = aiohttp.ClientTimeout(total=_PROBE_S)
            async with self._http.get(f"{self._url}/v1/streams/{answer}", timeout=timeout) as response:
                while data := await response.content.readany():
                    count += len(reader.push(data))
                return f"asked again it has {count} events and an end ({response.status})"
        except TimeoutError:
            return f"asked again it has {count} events and no end"
        except (aiohttp.ClientError, OSError) as error:
            return f"asked again it has {count} events: {error!r}"

    def _may_go_on(self, broken: Connection) -> bool:
        if not self._ask.resumable or self._last_id() is None:
            return False
        match broken.outcome:
            case Outcome.ENDED | Outcome.HUNG:
                return False
            case Outcome.REFUSED:
                return broken.status in RETRIED
            case _:
                return True

    def _last_id(self) -> str | None:
        return self.stream.events[-1].id if self.stream.events else None

    async def _exchange(self, connection: Connection) -> None:
        try:
            async with self._request(connection) as response:
                connection.status = response.status
                if response.status != 200:
                    connection.outcome = Outcome.REFUSED
                    connection.detail = (await response.text())[:1000]
                    return
                self._response = response
                connection.port = _port(response)
                connection.outcome = await self._read(response)
        except TimeoutError:
            connection.outcome, connection.detail = Outcome.HUNG, f"{self._patience:g} s passed"
        except (aiohttp.ClientError, OSError) as error:
            connection.outcome = Outcome.UNREACHABLE if connection.status is None else Outcome.DIED
            connection.detail = repr(error)
        finally:
            self._response = None

    def _request(self, connection: Connection) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self._patience)
        if connection.after is None:
            return self._http.post(self._url + self._ask.path, json=self._ask.body, timeout=timeout)
        answer = connection.after.rpartition(":")[0]
        headers = {"Last-Event-ID": connection.after}
        return self._http.get(f"{self._url}/v1/streams/{answer}", headers=headers, timeout=timeout)

    async def _read(self, response: aiohttp.ClientResponse) -> Outcome:
        reader = SseReader()
        while data := await response.content.readany():
            cut = self._cut_after
            if cut is not None:
                self._cut_after = cut - len(data)
                data = data[:cut]
            now = time.time()
            self.stream.events += [Event(now, event.data, event.id) for event in reader.push(data)]
            if cut is not None and self._cut_after is not None and self._cut_after <= 0:
                self._cut_after = None
                _break(response)
                return Outcome.CUT
        return Outcome.ENDED


def _port(response: aiohttp.ClientResponse) -> int | None:
    connection = response.connection
    if connection is None or connection.transport is None:
        return None  # everything has been read already
    return connection.transport.get_extra_info("sockname")[1]


def _break(response: aiohttp.ClientResponse) -> None:
    """No more bytes in either direction."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


OnStream = Callable[[Ask, Stream], None]


class Load:
    """Many clients at once, each asking one request after another until told to finish."""

    def __init__(self, url: str, patience: float, on_stream: OnStream) -> None:
        self._url = url
        self._patience = patience
        self._on_stream = on_stream
        self._clients: dict[int, Client] = {}
        self._begun = 0
        self._finishing = False

    async def run(self, asks: Iterable[Ask], clients: int, *, again: bool = False) -> None:
        """Ask each once; with ``again`` for ever, the longest unasked first, so that none is asked twice at once."""
        self._finishing = False
        queue = deque(asks)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(http, queue, again=again))

    async def _client(self, http: aiohttp.ClientSession, queue: deque[Ask], *, again: bool) -> None:
        while queue and not self._finishing:
            ask = queue.popleft()
            number, self._begun = self._begun, self._begun + 1
            client = self._clients[number] = Client(http, self._url, ask, number, self._patience)
            try:
                stream = await client.run()
            finally:
                del self._clients[number]
            self._on_stream(ask, stream)
            if again:
                queue.append(ask)
            if stream.last.outcome in (Outcome.REFUSED, Outcome.UNREACHABLE):
                await asyncio.sleep(_AGAIN_S)

    def finish(self) -> None:
        """Ask nothing new; ``run`` returns when what is under way has ended."""
        self._finishing = True

    def cut(self, rng: random.Random, share: float) -> int:
        """Break a share of the connections that stream now, each at a byte of its own; how many."""
        streaming = [client for client in self._clients.values() if client.is_streaming]
        chosen = rng.sample(streaming, round(share * len(streaming)))
        for client in chosen:
            client.cut(rng.randint(0, 2000))
        return len(chosen)
