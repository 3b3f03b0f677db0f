"""Streams that outlive their front door, over all four services: the same events, and pages freed when nobody comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.registry import Role
from tests.stack import Stack, free_port, running
from tokenizer_svc.resumable import resumables

TOKENS = 120
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "Once upon a time", "temperature": 0, "n": 2}),
    ("/v1/completions", {"prompt": "Once upon a time", "seed": 7, "temperature": 1.5, "stop": ["qq"]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "seed": 3}),
]


@pytest_asyncio.fixture
async def stack(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    monkeypatch.setattr(resumables, "_LOOK_S", 0.05)
    monkeypatch.setattr(resumables, "_SUSPECT_S", 0.2)
    async with running(redis_url, namespace, toy_model, cache_dir, lease=1, drain_timeout=0) as stack:
        yield stack


async def second_door(stack: Stack) -> str:
    """Another front door, on a port of its own."""
    stack.settings = replace(stack.settings, port=free_port())
    stack.start(Role.TOKENIZER, "1")
    url = f"http://127.0.0.1:{stack.settings.port}"
    async with asyncio.timeout(30):
        while True:
            try:
                async with stack.http.get(f"{url}/ready") as response:
                    if response.status == 200:
                        return url
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


def text_of(body: bytes) -> dict[int, str]:
    """The text of each choice in the events of a stream."""
    found: dict[int, str] = {}
    for event in body.split(b"\n\n")[:-1]:
        data = event.split(b"data: ", 1)[1]
        for choice in [] if data == b"[DONE]" else json.loads(data)["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content") or ""
            found[choice["index"]] = found.get(choice["index"], "") + text
    return found


def ids_of(body: bytes) -> list[str]:
    return [event.split(b"\n", 1)[0].removeprefix(b"id: ").decode() for event in body.split(b"\n\n")[:-1]]


@pytest.mark.parametrize(("path", "fields"), KINDS)
async def test_the_front_door_is_killed(stack: Stack, path: str, fields: dict[str, Any]) -> None:
    body = fields | {"stream": True, "max_tokens": TOKENS, "ignore_eos": True}
    async with stack.http.post(f"{stack.url}{path}", json=body) as response:
        expected = text_of(await response.read())
    url = await second_door(stack)
    response = await stack.http.post(f"{stack.url}{path}", json=body | {"resumable": True})
    seen = b""
    while len(ids_of(seen)) < 8:
        seen += await response.content.readany()
    await stack.kill(Role.TOKENIZER, "0")
    response.close()
    seen = b"".join(event + b"\n\n" for event in seen.split(b"\n\n")[:-1])
    last = ids_of(seen)[-1]
    at = f"{url}/v1/streams/{last.partition(':')[0]}"
    async with asyncio.timeout(30), stack.http.get(at, headers={"Last-Event-ID": last}) as response:
        assert response.status == 200, await response.text()
        seen += await response.read()
    assert [int(id.rpartition(":")[2]) for id in ids_of(seen)] == list(range(1, len(ids_of(seen)) + 1))
    assert seen.endswith(b"data: [DONE]\n\n")
    assert text_of(seen) == expected


async def test_pages_are_freed_when_nobody_comes_back(stack: Stack) -> None:
    stack.settings = replace(stack.settings, resume_grace=0.2)
    await stack.stop(Role.TOKENIZER)
    stack.start(Role.TOKENIZER)
    await stack.ready()
    body = {"prompt": "a", "stream": True, "resumable": True, "max_tokens": 2000, "ignore_eos": True}
    response = await stack.http.post(f"{stack.url}/v1/completions", json=body)
    await response.content.readany()
    assert await stack.metric("rootstream_kv_pages_used")
    response.close()
    async with asyncio.timeout(20):
        while await stack.metric("rootstream_kv_pages_used"):
            await asyncio.sleep(0.05)
