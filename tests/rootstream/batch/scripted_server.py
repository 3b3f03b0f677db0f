"""A server that answers, refuses or breaks off as a test says, to test what a batch makes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any

from aiohttp import web

Answer = Callable[[dict[str, Any], int], web.Response | None]
"""From a body and how often it was asked before to a response; None breaks the connection off."""


def echo(body: dict[str, Any], before: int) -> web.Response:
    usage = {"prompt_tokens": 2, "completion_tokens": 3}
    return web.json_response({"echo": body["prompt"], "usage": usage}, headers={"X-Request-Id": "r"})


class ScriptedServer:
    """Counts what it is asked, by prompt."""

    def __init__(self, answer: Answer = echo) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0
        self.open = asyncio.Event()  # answers wait for it
        self.open.set()
        self.someone = asyncio.Event()
        self.key: str | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        known = self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}"
        return web.json_response({"data": [{"id": "m"}]}, status=200 if known else 401)

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        before = self.asked[body["prompt"]]
        self.asked[body["prompt"]] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.someone.set()
        try:
            await self.open.wait()
            response = self.answer(body, before)
        finally:
            self.under_way -= 1
        if response is None:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        return response


@contextlib.asynccontextmanager
async def serving(server: ScriptedServer, port: int = 0) -> AsyncGenerator[str]:
    runner = web.AppRunner(server.application(), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        [address] = runner.addresses
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        await runner.cleanup()
