"""What a program asks of a server, and what it gets: the seam between the language and those who speak to servers.

Knows nothing of HTTP and nothing of how programs run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from rootstream.lang.parts import Part


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Go on from ``parent`` with these parts; the whole is to be known as ``id``.

    An id is made once and kept across retries: the same call with the same id gives the same answer.
    """

    id: str
    parts: tuple[Part, ...]
    parent: str | None = None
    history: Callable[[], Sequence[Part]] = tuple
    """All from the root up to ``parent``, generated text as Text, if the server has lost it or knows no parents."""
    tools: tuple[dict[str, Any], ...] = ()  # of the whole conversation
    template_kwargs: dict[str, Any] = {}
    group: str | None = None  # with whom it shares its beginning and its time
    prefill: bool = False  # compute it now, though nothing is generated
    keep: bool = True  # others go on from it
    release: tuple[str, ...] = ()  # contexts that nobody goes on from any more
    timeout: float | None = None  # seconds
    stream: bool = False  # pieces are wanted as they come


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one Gen or Select came to."""

    name: str
    text: str
    part: int  # its place in Call.parts
    texts: tuple[str, ...] = ()  # all n of them, where n > 1
    finish_reason: str = "stop"
    matched_stop: str | int | None = None
    completion_tokens: int = 0
    reasoning_content: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprobs: Any = None
    index: int | None = None  # of the choice
    scores: tuple[float, ...] = ()  # by which it was chosen


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call; those of generations that ran beside each other are summed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Outcome(msgspec.Struct, frozen=True):
    """The answer to a Call: a result for each Gen and Select, in order."""

    results: tuple[Result, ...] = ()
    usage: Usage = Usage()


OnPiece = Callable[[int, str], None]
"""Told the place of a part in Call.parts, and the text that came for it."""


class CallError(Exception):
    """A call that failed for good: what, where and what to do. ``status`` is HTTP's, where there is one."""

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Unsupported(CallError):
    """The server that is asked has no way to do it."""


class Backend(Protocol):
    """Somebody who answers calls. Used from one event loop at a time."""

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        """Raises CallError; cancelling it cancels the work at the server. Retries by itself what is safe to retry."""
        ...

    async def release(self, ids: Sequence[str]) -> None:
        """Nobody goes on from these any more. Best effort: never raises for a server that is away."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
