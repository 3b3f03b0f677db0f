"""One answer, streamed, across lost connections: what of it has come, when, and what it cost.

Asks for a stream that can be resumed (docs/resuming.md). When the connection is cut it asks for what comes after the
last event; where nothing had come yet, for everything once more. Servers that know nothing of this ignore the header.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import aiohttp

from rootstream.client import Client, Event, NoServer, Refused

PATIENCE_S = 120.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0
_RESUMABLE = {"X-Resumable": "true"}
_AWAY = (NoServer, aiohttp.ClientError, ConnectionError)


class Lost(ConnectionError):
    """The rest of an answer cannot be had any more."""


class Answer:
    """What has come so far. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self.text = ""
        self.asked_at = time.perf_counter()
        self.first_at: float | None = None
        self.last_at = self.asked_at
        self.usage: dict[str, Any] = {}
        self.finish: str | None = None
        self.event_id: str | None = None

    @property
    def stream_id(self) -> str | None:
        """Under which the server keeps this answer; None where it does not."""
        return self.event_id.rpartition(":")[0] if self.event_id else None

    def figures(self) -> str:
        """TTFT, speed and cached tokens, for people."""
        words: list[str] = []
        if self.first_at is not None:
            words.append(f"TTFT {1000 * (self.first_at - self.asked_at):.0f} ms")
        tokens = self.usage.get("completion_tokens")
        if tokens is not None:
            seconds = self.last_at - self.first_at if self.first_at is not None else 0.0
            words.append(
                f"{tokens} tokens" + (f" at {(tokens - 1) / seconds:.1f}/s" if tokens > 1 and seconds > 0 else "")
            )
        if "prompt_tokens" in self.usage:
            cached = (self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            words.append(f"prompt {self.usage['prompt_tokens']} tokens, {cached} cached")
        if self.finish not in {None, "stop"}:
            words.append(f"ended by {self.finish}")
        return "; ".join(words)


class Show:
    """What to do with what comes; by default nothing."""

    def text(self, piece: str) -> None:
        """A piece of the answer."""

    def reasoning(self, piece: str) -> None:
        """A piece of what the model thinks before it answers."""

    def note(self, text: str) -> None:
        """Something about the connection."""


async def stream(
    client: Client, body: Mapping[str, Any], answer: Answer, show: Show, patience_s: float = PATIENCE_S
) -> None:
    """Fill ``answer``. Raises Refused where the server says no, Lost where it is gone for good.

    A cancelled one is cancelled at the server, too.
    """
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        await _until_done(client, asked, answer, show, patience_s)
    except asyncio.CancelledError:
        if answer.stream_id is not None:
            with contextlib.suppress(Refused, *_AWAY, TimeoutError):
                await asyncio.wait_for(client.delete(f"/v1/streams/{answer.stream_id}"), 5)
        raise


async def _until_done(client: Client, body: Mapping[str, Any], answer: Answer, show: Show, patience_s: float) -> None:
    lost_at: float | None = None
    pause = _FIRST_PAUSE_S
    while True:
        try:
            async with contextlib.aclosing(_events(client, body, answer)) as events:
                async for event in events:
                    lost_at, pause = None, _FIRST_PAUSE_S
                    _take(event, answer, show)
            if answer.finish is not None or answer.first_at is None:
                return
            raise ConnectionError("the stream broke off")
        except Refused as refused:
            if refused.status == 404 and answer.stream_id is not None:
                raise Lost("the server no longer has the rest of this answer") from refused
            if refused.status != 503:
                raise
            why = refused.message
        except _AWAY as error:
            if answer.first_at is not None and answer.stream_id is None:
                raise Lost(f"the connection was lost: {error}") from error
            why = "the connection was lost"
        now = time.monotonic()
        if lost_at is None:
            lost_at = now
            show.note(f"{why}: waiting for the server")
        elif now - lost_at > patience_s:
            raise Lost(f"no server answered for {patience_s:.0f} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _events(client: Client, body: Mapping[str, Any], answer: Answer) -> AsyncGenerator[Event]:
    if answer.event_id is None:
        return client.events("POST", "/v1/chat/completions", json=body, headers=_RESUMABLE)
    return client.events("GET", f"/v1/streams/{answer.stream_id}", headers={"Last-Event-ID": answer.event_id})


def _take(event: Event, answer: Answer, show: Show) -> None:
    answer.event_id = event.id or answer.event_id
    answer.usage = event.data.get("usage") or answer.usage
    for choice in event.data.get("choices") or ():
        delta = choice.get("delta") or {}
        answer.finish = choice.get("finish_reason") or answer.finish
        text = delta.get("content") or ""
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if text or thought:
            answer.last_at = time.perf_counter()
            answer.first_at = answer.first_at or answer.last_at
        _say(show.reasoning, thought)
        _say(show.text, text)
        answer.text += text


def _say(say: Callable[[str], None], text: str) -> None:
    if text:
        say(text)
