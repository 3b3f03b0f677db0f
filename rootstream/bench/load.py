"""Sends a workload's requests to a server and notes when what arrives. Knows HTTP, nothing of figures."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import aiohttp

from rootstream.bench.figures import Timeline
from rootstream.bench.workloads import Chat, Completion, Conversation, Request, Structured, Workload
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

    max_tokens: str = "max_tokens"
    """How chats call the most tokens of an answer."""

    tells_usage: bool = True
    """Whether streams end in a usage. Else pieces are counted as tokens, and max_tokens where that was the end."""


OPENAI = Dialect()


async def send(
    client: Client, model: str, workload: Workload, dialect: Dialect = OPENAI, departures: Iterable[float] = ()
) -> list[Timeline]:
    """Run a workload, greedily; a failed request is a timeline with an error.

    ``departures`` are seconds from the start before which each request does not go; without them, requests go as soon
    as the workload's concurrency lets them.
    """
    slots = asyncio.Semaphore(workload.concurrency)
    ask = _Asker(client, model, dialect)
    began = time.perf_counter()

    async def one(request: Request, departure: float) -> list[Timeline]:
        await asyncio.sleep(max(0.0, began + departure - time.perf_counter()))
        async with slots:
            match request:
                case Completion():
                    return [await ask.completion(request)]
                case Chat():
                    return [await ask.chat(request)]
                case Conversation():
                    return await ask.conversation(request)
                case Structured():
                    return [await ask.structured(request)]

    times = itertools.chain(departures, itertools.repeat(0.0))
    found = await asyncio.gather(*(one(*pair) for pair in zip(workload.requests, times, strict=False)))
    return [timeline for timelines in found for timeline in timelines]


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Departures at ``rate`` a second, independent of one another: as users who know nothing of each other come."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


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

    async def chat(self, request: Chat) -> Timeline:
        body = {"messages": request.messages, self._dialect.max_tokens: request.max_tokens}
        return await self._timed("/v1/chat/completions", {**body, **self._dialect.whole_length})

    async def conversation(self, request: Conversation) -> list[Timeline]:
        history = [{"role": "system", "content": request.system}]
        timelines: list[Timeline] = []
        for question in request.questions:
            history.append({"role": "user", "content": question})
            timeline = await self.chat(Chat(history, request.max_tokens))
            timelines.append(timeline)
            if timeline.error is not None:
                break
            history.append({"role": "assistant", "content": timeline.text})
        return timelines

    async def structured(self, request: Structured) -> Timeline:
        body = {
            "messages": [{"role": "user", "content": request.question}],
            self._dialect.max_tokens: request.max_tokens,
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
            most = body.get(self._dialect.max_tokens, body.get("max_tokens"))
            usage = {"completion_tokens": most if finish == "length" else len(arrivals)}
        if error is None and not usage:
            if finish is None:
                error = "the answer ended without usage"
            usage = {"completion_tokens": len(arrivals)}  # a server that does not count: pieces are taken for tokens
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
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        return choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
    return ""


def _finish(event: Mapping[str, Any]) -> str | None:
    return next((choice.get("finish_reason") for choice in event.get("choices") or ()), None)
