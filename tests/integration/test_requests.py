"""What clients rely on, with the real services behind the door: refusals, seeds, choices, streams that add up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.stack import Stack, running

PROMPT = {"prompt": list(range(10, 60)), "max_tokens": 20, "ignore_eos": True}


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir, max_running=4, max_queue=4) as stack:
        yield stack


async def chunks(stack: Stack, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream; it must end in [DONE]."""
    async with stack.http.post(f"{stack.url}/v1/completions", json=body | {"stream": True}) as response:
        assert response.status == 200
        events = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def test_a_full_queue_answers_429_and_the_others_are_served(stack: Stack) -> None:
    long = PROMPT | {"max_tokens": 1500}
    running_ones = [asyncio.create_task(stack.post("/v1/completions", long)) for _ in range(4)]
    while await stack.metric("rootstream_worker_step_tokens") != 4:
        await asyncio.sleep(0.02)
    waiting = [asyncio.create_task(stack.post("/v1/completions", PROMPT)) for _ in range(4)]
    while await stack.metric("rootstream_queue_requests") != 4:
        await asyncio.sleep(0.02)
    for stream in (False, True):
        async with stack.http.post(f"{stack.url}/v1/completions", json=PROMPT | {"stream": stream}) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "queue_full"
    for answer in await asyncio.gather(*running_ones, *waiting):
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_seed_fixes_every_choice_whatever_runs_beside_it(stack: Stack) -> None:
    body = PROMPT | {"n": 3, "seed": 42, "temperature": 1}
    alone = await stack.post("/v1/completions", body)
    texts = [choice["text"] for choice in alone["choices"]]
    assert len(set(texts)) == 3
    beside = asyncio.create_task(stack.post("/v1/completions", PROMPT | {"temperature": 1}))
    again = await stack.post("/v1/completions", body)
    await beside
    assert [choice["text"] for choice in again["choices"]] == texts
    assert alone["usage"]["completion_tokens"] == 60


async def test_a_stream_adds_up_to_the_whole_answer(stack: Stack) -> None:
    body = PROMPT | {"temperature": 0, "n": 2}
    whole = await stack.post("/v1/completions", body)
    parts = await chunks(stack, body | {"stream_options": {"include_usage": True}})
    texts = {0: "", 1: ""}
    finishes: dict[int, str] = {}
    for chunk in parts[:-1]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                assert choice["index"] not in finishes
                finishes[choice["index"]] = choice["finish_reason"]
    assert list(texts.values()) == [choice["text"] for choice in whole["choices"]]
    assert finishes == {0: "length", 1: "length"}
    assert parts[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 40


async def test_a_stop_string_cuts_text_and_frees_the_row(stack: Stack) -> None:
    whole = (await stack.post("/v1/completions", PROMPT | {"temperature": 0}))["choices"][0]["text"]
    stop = whole[5:7]
    answer = await stack.post("/v1/completions", PROMPT | {"temperature": 0, "stop": stop, "max_tokens": 1500})
    assert answer["choices"][0]["text"] == whole[: whole.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    for _ in range(100):
        if await stack.metric("rootstream_running_requests") == 0:
            break
        await asyncio.sleep(0.02)
    assert await stack.metric("rootstream_running_requests") == 0


async def test_an_abort_ends_a_stream_with_its_reason(stack: Stack) -> None:
    async with stack.http.post(
        f"{stack.url}/v1/completions", json=PROMPT | {"max_tokens": 1500, "stream": True}
    ) as response:
        first = json.loads((await response.content.readuntil(b"\n\n")).removeprefix(b"data: "))
        await stack.post("/abort_request", {"rid": first["id"]})
        rest = (await response.text()).split("\n\n")
    reasons = [json.loads(line.removeprefix("data: "))["choices"][0]["finish_reason"] for line in rest[:-2]]
    assert reasons[-1] == "abort"
    assert set(reasons[:-1]) <= {None}
