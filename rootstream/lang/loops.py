"""A loop of its own for whoever has none. Knows nothing of programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from rootstream.lang.calls import Backend

T = TypeVar("T")


def own_loop(instead: str) -> asyncio.Runner:
    """Raises RuntimeError where a loop runs already, with what to write ``instead``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.Runner(loop_factory=uvloop.new_event_loop)
    raise RuntimeError(f"a loop runs already: {instead}")


async def closing(backend: Backend, whole: Coroutine[Any, Any, T]) -> T:
    """Run, and let go of the backend's connections, which belong to this loop."""
    try:
        return await whole
    finally:
        await backend.close()


def alone(backend: Backend, whole: Callable[[], Coroutine[Any, Any, T]], instead: str) -> T:
    """Run to the end in a loop of its own. Raises RuntimeError as :func:`own_loop` does."""
    with own_loop(instead) as runner:
        return runner.run(closing(backend, whole()))
