"""Sends a workload's requests to a server and notes when what arrives. Knows HTTP, nothing of figures."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from rootstream.bench.figures import Timeline
from rootstream.bench.workloads import Completion, Conversation, Request, Structured, Workload
from rootstream.client import Client, NoServer, Refused


def openai_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's `response_format` for a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


class Dialect(NamedTuple):
    """How a server wants to be asked; by default as OpenAI's API with `ignore_eos`, which most servers know."""

    always: Mapping[str, Any] = {}
    """In every request."""

    whole_length: Mapping[str, Any] = {"ignore_eos": True}
    """In requests whose answers are to have exactly max_tokens."""

    response_format: Callable[[Mapping[str, Any]], Mapping[str, Any]] = openai_format
    """The value of `response_format` for a JSON schema."""

    tells_usage: bool = True
    """Whether streams end in a usage. Else pieces are counted as tokens, and max_tokens where that was the end."""


OPENAI = Dialect()


async def send(client: Client, model: str, workload: Workload, dialect: Dialect = OPENAI) -> list[Timeline]:
    """Run a workload, greedily; a failed request is a timeline with an error."""
    slots = asyncio.Semaphore(workload.concurrency)
    ask = _Asker(client, model, dialect)

    async def one(request: Request) -> list[Timeline]:
        async with slots:
            match request:
                case Completion():
                    return [await ask.completion(request)]
                case Conversation():
                    return await ask.conversation(request)
                case Structured():
                    return [await ask.structured(request)]

    found = await asyncio.gather(*(one(request) for request in workload.requests))
    return [timeline for timelines in found for timeline in timelines]


class _Asker:
    """Requests to one model of one server."""

    def __init__(self, client: Client, model: str, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self._common = {"model": model, "temperature": 0, "stream": True, **dialect.always}
        if dialect.tells_usage:
            self._common["stream_options"] = {"include_usage": True}

    async def completion(self, request: Completion) -> Timeline:
        body = {"prompt": request.prompt, "max_tokens": request.max_tokens, **self._dialect.whole_length}
        return await self._timed("/v1/completions", body)

    async def conversation(self, request: Conversation) -> list[Timeline]:
        history = [{"role": "system", "content": request.system}]
        timelines: list[Timeline] = []
        for question in request.questions:
            history.append({"role": "user", "content": question})
            body = {"messages": history, "max_tokens": request.max_tokens, **self._dialect.whole_length}
            timeline = await self._timed("/v1/chat/completions", body)
            timelines.append(timeline)
            if timeline.error is not None:
                break
            history.append({"role": "assistant", "content": timeline.text})
        return timelines

    async def structured(self, request: Structured) -> Timeline:
        body = {
            "messages": [{"role": "user", "content": request.question}],
            "max_tokens": request.max_tokens,
            "response_format": self._dialect.response_format(request.schema),
        }
        return await self._timed("/v1/chat/completions", body)

    async def _timed(self, path: str, body: Mapping[str, Any]) -> Timeline:
        """One request as its client sees it."""
        sent = time.perf_counter()
        arrivals: list[float] = []
        parts: list[str] = []
        usage: dict[str, Any] = {}
        finish: str | None = None
        error: str | None = None
        try:
            async with contextlib.aclosing(self._client.stream(path, {**self._common, **body})) as events:
                async for event in events:
                    text = _text(event)
                    if text:
                        arrivals.append(time.perf_counter())
                        parts.append(text)
                    usage = event.get("usage") or usage
                    finish = _finish(event) or finish
        except (NoServer, Refused, aiohttp.ClientError) as failure:
            error = str(failure)
        if not self._dialect.tells_usage:
            usage = {"completion_tokens": body["max_tokens"] if finish == "length" else len(arrivals)}
        if error is None and not usage:
            error = "the answer ended without usage"
        return Timeline(
            sent=sent,
            arrivals=arrivals,
            ended=time.perf_counter(),
            prompt_tokens=usage.get("prompt_tokens", 0),
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            completion_tokens=usage.get("completion_tokens", 0),
            error=error,
            text="".join(parts),
        )


def _text(event: Mapping[str, Any]) -> str:
    for choice in event.get("choices", ()):
        return choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    return ""


def _finish(event: Mapping[str, Any]) -> str | None:
    return next((choice.get("finish_reason") for choice in event.get("choices", ())), None)
