"""Generation is paused and goes on: nothing is computed meanwhile, and no answer is another for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.registry import Role
from tests.stack import Stack, running

PROMPTS = [[5, 6, 7], [8, 9] * 20, [10, 11, 12, 13]]
LONG = 300


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir, lease=1) as stack:
        yield stack


class Reading:
    """A stream that is read as it comes."""

    def __init__(self, stack: Stack, prompt: list[int]) -> None:
        self.tokens: list[int] = []
        self.finish: dict[str, Any] | None = None
        self._stack, self._prompt = stack, prompt
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        params = {"temperature": 0, "max_new_tokens": LONG, "ignore_eos": True}
        body = {"input_ids": self._prompt, "sampling_params": params, "stream": True}
        async with self._stack.http.post(f"{self._stack.url}/generate", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    self.tokens = event["output_ids"]
                    self.finish = event["meta_info"]["finish_reason"]

    async def until(self, tokens: int) -> None:
        async with asyncio.timeout(20):
            while len(self.tokens) < tokens:
                await asyncio.sleep(0.005)


async def state(stack: Stack) -> tuple[int, Any]:
    async with stack.http.get(f"{stack.url}/ready") as response:
        return response.status, (await response.json()).get("paused")


@pytest.mark.parametrize("mode", ["in_place", "retract"])
async def test_streams_stand_still_and_go_on_with_the_same_tokens(stack: Stack, mode: str) -> None:
    expected = [(await stack.generate(prompt, LONG))["output_ids"] for prompt in PROMPTS]
    await stack.post("/flush_cache", {})
    streams = [Reading(stack, prompt) for prompt in PROMPTS]
    for stream in streams:
        await stream.until(3)
    await stack.post("/pause_generation", {"mode": mode})
    assert await state(stack) == (200, mode)
    await asyncio.sleep(0.15)  # what was sent before arrives
    before = [len(stream.tokens) for stream in streams]
    assert max(before) < LONG
    waiting = asyncio.create_task(stack.generate([20, 21], 4))
    freed = await stack.post("/flush_cache", {})
    await asyncio.sleep(0.3)
    assert [len(stream.tokens) for stream in streams] == before
    assert not waiting.done()
    assert freed["pages"] >= 0 if mode == "in_place" else freed["pages"] > 0
    async with stack.http.get(f"{stack.url}/health_generate") as response:
        assert response.status == 503
        assert "paused" in (await response.json())["error"]["message"]
    await stack.post("/continue_generation", {})
    assert await state(stack) == (200, None)
    await asyncio.gather(*(stream.task for stream in streams))
    assert [stream.tokens for stream in streams] == expected
    assert len((await waiting)["output_ids"]) == 4


async def test_a_pause_that_aborts(stack: Stack) -> None:
    stream = Reading(stack, PROMPTS[0])
    await stream.until(3)
    await stack.post("/pause_generation", {})
    await stream.task
    assert stream.finish is not None
    assert stream.finish["type"] == "abort"
    assert "paused" in stream.finish["message"]
    waiting = asyncio.create_task(stack.generate([20, 21], 4))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await stack.post("/continue_generation", {})
    assert len((await waiting)["output_ids"]) == 4


@pytest.mark.parametrize("lost", [Role.SCHEDULER, Role.WORKER])
async def test_a_pause_outlives_processes(stack: Stack, lost: Role) -> None:
    [expected] = [(await stack.generate(PROMPTS[0], LONG))["output_ids"]]
    stream = Reading(stack, PROMPTS[0])
    await stream.until(3)
    await stack.post("/pause_generation", {"mode": "in_place"})
    await stack.kill(lost, replica="0")
    stack.start(lost)
    await asyncio.sleep(0.5)
    async with asyncio.timeout(20):
        while await state(stack) != (200, "in_place"):
            await asyncio.sleep(0.05)
    before = len(stream.tokens)
    await asyncio.sleep(0.3)
    assert len(stream.tokens) == before
    await stack.post("/continue_generation", {})
    await stream.task
    assert stream.tokens == expected


async def test_a_pause_ends_what_it_should_not_hold(stack: Stack) -> None:
    """A deadline passes, a client aborts: also while nothing is computed."""
    await stack.post("/pause_generation", {"mode": "in_place"})
    params = {"max_new_tokens": 4}
    body = {"input_ids": [1, 2], "sampling_params": params, "timeout": 0.2}
    async with stack.http.post(f"{stack.url}/generate", json=body) as response:
        assert response.status == 408
    asking = asyncio.create_task(
        stack.post("/generate", {"input_ids": [1, 2], "sampling_params": params, "rid": "mine"})
    )
    await asyncio.sleep(0.1)
    await stack.post("/abort_request", {"rid": "mine", "abort_message": "no more"})
    assert (await asking)["meta_info"]["finish_reason"] == {"type": "abort", "message": "no more"}
    async with stack.http.post(f"{stack.url}/pause_generation", json={"mode": "sideways"}) as response:
        assert response.status == 400
    async with aiohttp.ClientSession() as http, http.post(f"{stack.url}/continue_generation") as response:
        assert response.status == 200
