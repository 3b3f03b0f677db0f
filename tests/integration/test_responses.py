"""Messages and responses over the four services and the toy model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest_asyncio

from tests.stack import Stack, running

HI: Any = [{"role": "user", "content": "hi"}]
LOGPROBS: Any = ["message.output_text.logprobs"]


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir, served_model_name="toy") as stack:
        yield stack


@pytest_asyncio.fixture
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_three_apis_say_the_same(stack: Stack, client: openai.AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(
        model="toy", messages=HI, temperature=0, max_tokens=12, logprobs=True, top_logprobs=2
    )
    expected = chat.choices[0].logprobs
    assert expected is not None
    asked: dict[str, Any] = {"model": "toy", "input": "hi", "temperature": 0, "max_output_tokens": 12}
    asked |= {"include": LOGPROBS, "top_logprobs": 2}
    response = await client.responses.create(**asked)
    assert response.output_text == chat.choices[0].message.content
    [message] = response.output
    assert message.type == "message"
    [part] = message.content
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert expected.content is not None
    assert [each.to_dict() for each in part.logprobs] == [each.to_dict() for each in expected.content]
    stream = await client.responses.create(**asked, stream=True)
    deltas = [event async for event in stream if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == response.output_text
    streamed = [(each.token, each.logprob) for event in deltas for each in event.logprobs]
    assert streamed == [(each.token, each.logprob) for each in part.logprobs][: len(streamed)]
    assert streamed
    async with anthropic.AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0) as claude:
        said = await claude.messages.create(model="toy", messages=HI, max_tokens=12, extra_body={"temperature": 0})
        nothing = await claude.messages.create(model="toy", messages=HI, max_tokens=0)
    assert said.content[0].type == "text"
    assert said.content[0].text == response.output_text
    assert (nothing.stop_reason, nothing.usage.output_tokens) == ("max_tokens", 0)


async def test_what_is_cancelled_or_left_runs_no_more(stack: Stack, client: openai.AsyncOpenAI) -> None:
    endless: dict[str, Any] = {"model": "toy", "input": "hi", "extra_body": {"top_k": 5}}
    endless |= {
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "string", "minLength": 1500}}}
    }
    background = await client.responses.create(**endless, background=True)
    waiting = asyncio.create_task(client.responses.create(**endless))
    await _until(stack, 2)
    assert (await client.responses.cancel(background.id)).status == "cancelled"
    await _until(stack, 1)
    waiting.cancel()
    await _until(stack, 0)


async def _until(stack: Stack, running: int) -> None:
    async with asyncio.timeout(20):
        while await stack.metric("rootstream_running_requests") != running:
            await asyncio.sleep(0.02)
