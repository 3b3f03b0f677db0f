"""Something that is to be done before an event loop ends, by whoever did not do it himself.

A loop tells nobody that it ends but asynchronous generators that began in it: asyncio.run and Runner close them
(loop.shutdown_asyncgens), when all tasks are over. Knows nothing of what is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable


class LoopEnd:
    """``close`` is called when the running loop ends, unless this is forgotten before."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close: Callable[[], Awaitable[None]] | None = close
        self._waiting = self._wait()
        _step(self._waiting.__anext__())

    def forget(self) -> None:
        """It has been done."""
        if self._close is not None:
            self._close = None
            _step(self._waiting.aclose())

    async def _wait(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            close, self._close = self._close, None
            if close is not None:
                await close()


def _step(awaitable: Awaitable[object]) -> None:
    """Up to the generator's yield, or to its end: nothing there waits."""
    with contextlib.suppress(StopIteration):
        awaitable.__await__().__next__()
