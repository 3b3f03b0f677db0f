"""Dry runs: a program runs as it is, but what it asks is answered with placeholders, and its calls become a graph.

Whatever depends on values (an ``if``, a loop until some text comes) goes the way of the placeholders; ``answers`` gives
other texts for it. Everything else that the body does happens for real. Knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from rootstream.lang.calls import Backend, CallError
from rootstream.lang.tracing.graph import Graph, graph_of, texts_of
from rootstream.lang.tracing.observing import unobserved
from rootstream.lang.tracing.placeholders import MOST_CALLS, Answers, Placeholders
from rootstream.lang.tracing.timeline import described


@runtime_checkable
class Counting(Protocol):
    """A backend that can say how long a text is."""

    async def count_tokens(self, text: str) -> int:
        """Without anything that a template adds. Raises CallError."""
        ...


async def dry_run(
    name: str,
    program: Callable[[Backend], Awaitable[Any]],
    *,
    answers: Answers | None = None,
    counting: object = None,
    most_calls: int = MOST_CALLS,
) -> Graph:
    """What ``program`` asks of the backend that it is given. Tokens are counted by ``counting`` where it can count."""
    placeholders = Placeholders(answers, most_calls)
    error: str | None = None
    try:
        with unobserved():
            await program(placeholders)
    except Exception as raised:  # noqa: BLE001 - a placeholder may be no value that the body can use; the graph says so
        error = f"the body ended with {described(raised)}"
    counted = await _counted(placeholders, counting)
    return graph_of(name, placeholders.calls, counted=counted, error=placeholders.stopped or error)


async def _counted(placeholders: Placeholders, counting: object) -> dict[str, int] | None:
    if not isinstance(counting, Counting):
        return None
    try:
        return {text: await counting.count_tokens(text) for text in texts_of(call for call, _ in placeholders.calls)}
    except CallError:  # the server is away: an estimate will do
        return None
