"""A small server that speaks OpenAI's wire format, to test clients with: it answers with the words it was asked.

Not a stand-in for our front door, which has its own tests: any compatible server must do for the clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler


class EchoServer:
    """Answers each request with its last words; remembers what it was asked.

    The first ``crowd`` streams wait for one another.
    """

    def __init__(self, crowd: int = 1, key: str | None = None, thinks: str = "") -> None:
        self._crowd = crowd
        self._thinks = thinks
        self._key = key
        self._crowded = asyncio.Event()
        self.bodies: list[dict[str, Any]] = []
        self.flushes = 0
        self.running = 0
        self.most_running = 0
        self.disconnected = asyncio.Event()
        self.fail_with: str | None = None

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._check])
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/server_info", self._info)
        app.router.add_post("/flush_cache", self._flush)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_post("/v1/chat/completions", self._completion)
        return app

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            return web.json_response({"error": {"message": "who are you"}}, status=401)
        return await handler(request)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "echo", "object": "model"}]})

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response({"card": {"vocab_size": 500}})

    async def _flush(self, request: web.Request) -> web.Response:
        self.flushes += 1
        return web.json_response({})

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self.fail_with is not None:
            return web.json_response({"error": {"message": self.fail_with, "type": "invalid"}}, status=400)
        if not body.get("stream"):
            return web.json_response({"choices": [{"text": "x"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if self.running >= self._crowd:
            self._crowded.set()
        try:
            await self._crowded.wait()
            await self._events(response, body)
        except ConnectionError:
            self.disconnected.set()
        finally:
            self.running -= 1
        return response

    async def _events(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        chat = "messages" in body
        words = body["messages"][-1]["content"].split() if chat else ["w"] * body["max_tokens"]
        endless = words[:1] == ["forever"]
        prompt = len(str(body["messages"]).split()) if chat else len(body["prompt"])
        if self._thinks:
            await self._event(response, {"choices": [{"index": 0, "delta": {"reasoning_content": self._thinks}}]})
        while True:
            for word in words:
                choice = {"index": 0, "delta": {"content": word + " "}} if chat else {"index": 0, "text": word + " "}
                await self._event(response, {"choices": [choice]})
            if not endless:
                break
            await asyncio.sleep(0.01)
        await self._event(response, {"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]})
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words)}
        usage_event = {"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": prompt // 2}}}
        await self._event(response, usage_event)
        await response.write(b"data: [DONE]\n\n")

    async def _event(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


@contextlib.asynccontextmanager
async def serving(server: EchoServer) -> AsyncGenerator[str]:
    """Run it; the URL."""
    runner = web.AppRunner(server.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        [address] = runner.addresses
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        await runner.cleanup()
