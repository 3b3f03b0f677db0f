"""A proxy between clients and server that passes everything on as it comes, and keeps what passed.

It runs in a thread with an event loop of its own, so that synchronous clients can be tested from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector, web

from tests.clients.exchanges import Exchange

_NOT_PASSED_ON = {"host", "connection", "transfer-encoding", "content-length", "date", "server"}


class Recorder:
    """What clients asked and were answered, in the order of the answers' ends."""

    def __init__(self, server: str) -> None:
        self.url: str
        self._server = server
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()

    def taken(self) -> list[Exchange]:
        """All exchanges since the last call."""
        with self._lock:
            taken, self._exchanges = self._exchanges, []
        return taken

    @contextlib.contextmanager
    def running(self) -> Iterator[Recorder]:
        """The proxy listens at ``url`` within the context."""
        loop = asyncio.new_event_loop()
        stopping: asyncio.Event = asyncio.Event()
        started: Future[str] = Future()
        thread = threading.Thread(target=lambda: loop.run_until_complete(self._serve(started, stopping)))
        thread.start()
        try:
            self.url = started.result(timeout=10)
            yield self
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join()
            loop.close()

    async def _serve(self, started: Future[str], stopping: asyncio.Event) -> None:
        options = {"timeout": ClientTimeout(total=None), "auto_decompress": False, "connector": TCPConnector(limit=0)}
        async with ClientSession(**options) as session:
            application = web.Application(client_max_size=2**26)

            async def passed(request: web.Request) -> web.StreamResponse:
                return await self._pass_on(session, request)

            application.router.add_route("*", "/{path:.*}", passed)
            runner = web.AppRunner(application, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            started.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
            await stopping.wait()
            await runner.cleanup()

    async def _pass_on(self, session: ClientSession, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        headers["accept-encoding"] = "identity"
        answer = bytearray()
        whole = False
        async with session.request(
            request.method, f"{self._server}{request.path_qs}", data=body, headers=headers
        ) as got:
            kept = [(n, v) for n, v in got.headers.items() if n.lower() not in _NOT_PASSED_ON]
            response = web.StreamResponse(status=got.status, headers=dict(kept))
            try:
                await response.prepare(request)
                async for part in got.content.iter_any():
                    answer += part
                    await response.write(part)
                await response.write_eof()
                whole = True
            except (ClientConnectionError, ConnectionError):
                pass  # the client left: the server notices when this connection is closed, too
            finally:
                kind = got.headers.get("content-type", "")
                exchange = Exchange(request.method, request.path, body, got.status, kind, bytes(answer), not whole)
                with self._lock:
                    self._exchanges.append(exchange)
        return response
