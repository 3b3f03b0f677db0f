"""A loop of its own for whoever has none. Knows nothing of programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from rootstream.lang.calls import Backend

T = TypeVar("T")


def alone(whole: Callable[[], Coroutine[Any, Any, T]], backend: Backend, instead: str) -> T:
    """Run to the end, and close the backend, whose connections belong to the loop.

    Raises RuntimeError where a loop runs already, with what to write ``instead``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(f"a loop runs already: {instead}")

    async def closing() -> T:
        try:
            return await whole()
        finally:
            await backend.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(closing())
