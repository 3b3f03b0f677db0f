"""Too many requests: refused at the door, before anything is done for them."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from shared.protocol import Generate
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, hello_world, silent
from tests.tokenizer_svc.test_errors import CHAT, HI, NATIVE, TEXT, refused

BODIES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HI}),
    (CHAT, {"messages": HI, "stream": True}),
    (TEXT, {"prompt": "a"}),
    (NATIVE, {"text": "a"}),
]


@pytest.fixture
async def http(start_door: StartDoor, url: str) -> Any:
    await start_door(max_queue=3)
    async with aiohttp.ClientSession(url) as session:
        yield session


async def assert_full(http: aiohttp.ClientSession) -> None:
    for path, body in BODIES:
        async with http.post(path, json=body) as response:
            error = await refused(response, 429)
            assert int(response.headers["Retry-After"]) >= 1
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert "3 may" in error["message"]


async def test_a_full_queue_refuses_at_the_door(
    http: aiohttp.ClientSession, downstream: Downstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    downstream.script = silent
    waiting = [asyncio.create_task(http.post(TEXT, json={"prompt": "a", "n": n})) for n in (1, 2)]
    await downstream.until(lambda: len(downstream.received(Generate)) == 3)

    def tokenised(*arguments: Any, **options: Any) -> None:
        raise AssertionError("tokens are made for a request that is refused")

    with monkeypatch.context() as patched:
        patched.setattr("shared.tokenizer.Tokenizer.encode", tokenised)
        patched.setattr("shared.tokenizer.Tokenizer.render_chat", tokenised)
        await assert_full(http)
    async with http.post(TEXT, json={"prompt": "a", "temperature": "hot"}) as response:
        await refused(response, 400)  # what can never be served is told so

    downstream.script = hello_world
    waiting.pop(0).cancel()
    await downstream.until(lambda: len(downstream.aborted) == 1)
    async with http.post(TEXT, json={"prompt": "a"}) as response:
        assert response.status == 200, "one that gave up has made room"
    for task in waiting:
        task.cancel()


async def test_whoever_waits_for_less_than_another_is_not_refused_at_the_door(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    downstream.script = silent
    waiting = asyncio.create_task(http.post(TEXT, json={"prompt": "a", "n": 3, "user": "greedy"}))
    await downstream.until(lambda: len(downstream.received(Generate)) == 3)
    async with http.post(TEXT, json={"prompt": "a", "user": "greedy"}) as response:
        await refused(response, 429)
    downstream.script = hello_world
    async with http.post(TEXT, json={"prompt": "a", "user": "modest"}) as response:
        assert response.status == 200
    waiting.cancel()


async def test_requests_of_other_doors_count_by_the_schedulers_word(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    downstream.others_waiting = 3
    await downstream.beat()
    async with asyncio.timeout(10):
        while True:
            async with http.post(TEXT, json={"prompt": "a"}) as response:
                if response.status == 429:
                    break
            await asyncio.sleep(0.05)
    await assert_full(http)
    downstream.others_waiting = 2
    await downstream.beat()
    async with asyncio.timeout(10):
        while (await http.post(TEXT, json={"prompt": "a"})).status == 429:
            await asyncio.sleep(0.05)
