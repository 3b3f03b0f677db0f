"""The whole service inside the test's event loop: the four real services on a real server.

For tests of behaviour across processes that need no process of their own; tests/e2e starts real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

import detokenizer_svc.service
import gpu_worker.service
import scheduler_svc.service
import tokenizer_svc.service
from shared.bus import Bus
from shared.config import Settings
from shared.redis_url import connection_url
from shared.registry import Role
from shared.service import Context, Serve, run

SERVICES: dict[Role, Serve] = {
    Role.WORKER: gpu_worker.service.serve,
    Role.SCHEDULER: scheduler_svc.service.serve,
    Role.DETOKENIZER: detokenizer_svc.service.serve,
    Role.TOKENIZER: tokenizer_svc.service.serve,
}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stack:
    """Running services and an HTTP session that talks to them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self.contexts: dict[str, Context] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.http: aiohttp.ClientSession

    def start(self, role: Role, replica: str = "0") -> None:
        """Start one service."""
        settings = replace(self.settings, replica=replica)
        context = Context(role, settings, Bus.connect(connection_url(settings), settings.namespace))
        name = f"{role}:{replica}"
        self.contexts[name] = context
        self._tasks[name] = asyncio.create_task(run(context, SERVICES[role]), name=name)

    async def stop(self, role: Role, replica: str = "0") -> None:
        """An orderly stop of one service."""
        name = f"{role}:{replica}"
        self.contexts.pop(name).stopping.set()
        await self._tasks.pop(name)

    async def kill(self, role: Role, replica: str = "0") -> None:
        """The nearest thing to kill -9: no service code runs after its next await."""
        name = f"{role}:{replica}"
        self.contexts.pop(name)
        task = self._tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def ready(self, patience: float = 60) -> None:
        """Wait until /ready says so; a service that died meanwhile raises its error here."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            for task in self._tasks.values():
                if task.done():
                    task.result()
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with self.http.get(f"{self.url}/ready") as response:
                    if response.status == 200:
                        return
            assert asyncio.get_running_loop().time() < deadline, "the services did not get ready"
            await asyncio.sleep(0.02)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST and expect success."""
        async with self.http.post(f"{self.url}{path}", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    async def generate(self, input_ids: list[int], max_tokens: int = 16, **params: Any) -> dict[str, Any]:
        """One native request, greedy unless told otherwise."""
        extra = {key: params.pop(key) for key in ("cache_salt", "priority") if key in params}
        params = {"temperature": 0, "max_new_tokens": max_tokens, "ignore_eos": True} | params
        return await self.post("/generate", {"input_ids": input_ids, "sampling_params": params, **extra})

    async def metric(self, name: str) -> float:
        """Sum of a metric over processes and labels, as /metrics shows it, as of now."""
        for context in self.contexts.values():
            await context.beat()
        async with self.http.get(f"{self.url}/metrics") as response:
            text = await response.text()
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def settled(self, name: str, value: float) -> float:
        """The same once it is ``value``, or after five seconds: a client is answered before the scheduler has read of
        it.
        """
        for _ in range(100):
            if (found := await self.metric(name)) == value:
                break
            await asyncio.sleep(0.05)
        return found


@contextlib.asynccontextmanager
async def running(redis_url: str, namespace: str, model: Path, cache: Path, **overrides: Any) -> AsyncIterator[Stack]:
    """All four services, ready. ``overrides`` are settings."""
    defaults: dict[str, Any] = {"dtype": "float32", "kv_memory": "16MiB", "threads": 1, "drain_timeout": 1}
    settings = Settings(
        model=str(model),
        redis=redis_url,
        namespace=namespace,
        port=free_port(),
        cache_dir=cache,
        **(defaults | overrides),
    )
    stack = Stack(settings)
    async with started(stack):
        yield stack


@contextlib.contextmanager
def running_in_thread(redis_url: str, namespace: str, model: Path, cache: Path, **overrides: Any) -> Iterator[Stack]:
    """The same in a thread with an event loop of its own, for callers who block."""
    ready: Future[Stack] = Future()
    done = threading.Event()

    async def serve() -> None:
        try:
            async with running(redis_url, namespace, model, cache, **overrides) as stack:
                ready.set_result(stack)
                await asyncio.to_thread(done.wait)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    with ThreadPoolExecutor(1) as executor:
        serving = executor.submit(asyncio.run, serve())
        try:
            yield ready.result()
        finally:
            done.set()
            serving.result()


@contextlib.asynccontextmanager
async def started(stack: Stack) -> AsyncIterator[None]:
    """One of each service of a stack, ready; whatever it runs at the end is stopped."""
    async with aiohttp.ClientSession() as stack.http:
        for role in SERVICES:
            stack.start(role)
        try:
            await stack.ready()
            yield
        finally:
            for name in tuple(stack.contexts):
                role, _, replica = name.partition(":")
                await stack.stop(Role(role), replica)
