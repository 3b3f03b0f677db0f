"""Sends a workload's requests to a server and notes when what arrives. Knows HTTP, nothing of figures."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from rootstream.bench.figures import Timeline
from rootstream.bench.workloads import Completion, Conversation, Workload
from rootstream.client import Client, NoServer, Refused

_SAMPLING = {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}


async def send(client: Client, model: str, workload: Workload) -> list[Timeline]:
    """Run a workload; a failed request is a timeline with an error."""
    slots = asyncio.Semaphore(workload.concurrency)

    async def one(request: Completion | Conversation) -> list[Timeline]:
        async with slots:
            if isinstance(request, Completion):
                return [await _completion(client, model, request)]
            return await _conversation(client, model, request)

    found = await asyncio.gather(*(one(request) for request in workload.requests))
    return [timeline for timelines in found for timeline in timelines]


async def _completion(client: Client, model: str, request: Completion) -> Timeline:
    body = {**_SAMPLING, "model": model, "prompt": request.prompt, "max_tokens": request.max_tokens}
    timeline, _ = await _timed(client, "/v1/completions", body)
    return timeline


async def _conversation(client: Client, model: str, request: Conversation) -> list[Timeline]:
    history = [{"role": "system", "content": request.system}]
    timelines: list[Timeline] = []
    for question in request.questions:
        history.append({"role": "user", "content": question})
        body = {**_SAMPLING, "model": model, "messages": history, "max_tokens": request.max_tokens}
        timeline, answer = await _timed(client, "/v1/chat/completions", body)
        timelines.append(timeline)
        if timeline.error is not None:
            break
        history.append({"role": "assistant", "content": answer})
    return timelines


async def _timed(client: Client, path: str, body: Mapping[str, Any]) -> tuple[Timeline, str]:
    """One request's timeline, and the text of the answer."""
    sent = time.perf_counter()
    arrivals: list[float] = []
    parts: list[str] = []
    usage: dict[str, Any] = {}
    error: str | None = None
    try:
        async with contextlib.aclosing(client.stream(path, body)) as events:
            async for event in events:
                text = _text(event)
                if text:
                    arrivals.append(time.perf_counter())
                    parts.append(text)
                usage = event.get("usage") or usage
    except (NoServer, Refused, aiohttp.ClientError) as failure:
        error = str(failure)
    if error is None and not usage:
        error = "the answer ended without usage"
    timeline = Timeline(
        sent=sent,
        arrivals=arrivals,
        ended=time.perf_counter(),
        prompt_tokens=usage.get("prompt_tokens", 0),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        completion_tokens=usage.get("completion_tokens", 0),
        error=error,
    )
    return timeline, "".join(parts)


def _text(event: Mapping[str, Any]) -> str:
    for choice in event.get("choices", ()):
        return choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    return ""
