"""Redis dies, freezes, fills up or loses its data under load: all answers end as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from rootstream.embedded import EmbeddedServer
from tests.stack import Stack, running

REQUESTS = 24
TOKENS = 150


class Redis:
    """A server of this test's own, to do things to."""

    def __init__(self, directory: Path) -> None:
        self.server = EmbeddedServer(directory)
        self.server.start()

    def signal(self, number: signal.Signals) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, number)

    async def die(self, *, lose: bool) -> None:
        """kill -9, and a new one in its place a moment later."""
        self.signal(signal.SIGKILL)
        while self.server.poll() is None:
            await asyncio.sleep(0.01)
        if lose:
            shutil.rmtree(self.server.directory / "appendonlydir")
        await asyncio.sleep(0.1)
        await asyncio.to_thread(self.server.start)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        redis = Redis(Path(directory))
        yield redis
        redis.server.stop()


@pytest_asyncio.fixture
async def stack(redis: Redis, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis.server.url, namespace, toy_model, cache_dir, lease=1) as stack:
        yield stack


def body(number: int) -> dict[str, Any]:
    """Greedy, seeded, constrained, and with a stop string, in turn."""
    prompt = f"the quick brown fox {number % 5} jumps over the lazy dog"
    params: dict[str, Any] = {"max_new_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
    match number % 4:
        case 1:
            params |= {"temperature": 1.0, "sampling_seed": number}
        case 2:
            params |= {"regex": "[a-e]{40,60}x", "ignore_eos": False}
        case 3:
            params |= {"stop": ["zq", "no such thing"], "n": 2}
        case _:
            pass
    return {"text": prompt, "sampling_params": params}


async def ask_all(stack: Stack) -> list[Any]:
    async def ask(number: int) -> Any:
        answers = await stack.post("/generate", body(number))
        found = answers if isinstance(answers, list) else [answers]
        for answer in found:
            for varying in ("id", "e2e_latency", "latency", "queue_time", "cached_tokens", "forced_tokens"):
                del answer["meta_info"][varying]
        return found

    return await asyncio.gather(*(ask(number) for number in range(REQUESTS)))


async def under_way(stack: Stack, seconds: float = 0.25) -> asyncio.Task[list[Any]]:
    task = asyncio.create_task(ask_all(stack))
    await asyncio.sleep(seconds)
    assert not task.done(), "too fast to be hit"
    return task


@pytest.mark.parametrize("with_data", [True, False], ids=["with its data", "without its data"])
async def test_redis_is_killed(stack: Stack, redis: Redis, *, with_data: bool) -> None:
    expected = await ask_all(stack)
    for _ in range(3):
        asking = await under_way(stack)
        await redis.die(lose=not with_data)
        async with asyncio.timeout(30):
            assert await asking == expected
    assert await stack.generate([5, 6, 7], 4)


async def test_redis_freezes(stack: Stack, redis: Redis) -> None:
    expected = await ask_all(stack)
    asking = await under_way(stack)
    redis.signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    redis.signal(signal.SIGCONT)
    async with asyncio.timeout(30):
        assert await asking == expected


async def test_redis_is_full(stack: Stack, redis: Redis, namespace: str) -> None:
    """What is under way waits, what is new is answered 503, and room is all it takes to go on."""
    expected = await ask_all(stack)
    bus = next(iter(stack.contexts.values())).bus
    asking = await under_way(stack)
    await bus.client.config_set("maxmemory", "1")
    try:
        async with stack.http.post(f"{stack.url}/generate", json=body(0)) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
    finally:
        await bus.client.config_set("maxmemory", "0")
    began = asyncio.get_running_loop().time()
    await stack.ready(3)
    assert await stack.generate([5, 6, 7], 4)
    assert asyncio.get_running_loop().time() - began < 3
    assert await asking == expected


async def test_the_data_is_flushed_while_the_server_runs(stack: Stack) -> None:
    expected = await ask_all(stack)
    asking = await under_way(stack)
    bus = next(iter(stack.contexts.values())).bus
    await bus.client.flushall()
    async with asyncio.timeout(30):
        assert await asking == expected
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/v1/models") as response:
        assert response.status == 200
