"""Ctrl-C while an answer is made: it ends the answer, whenever it comes, and never the chat."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any, Self


class Interrupts:
    """A context in which Ctrl-C cancels one task, also where it is pressed before there is the task."""

    def __init__(self) -> None:
        self._pressed = False
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """From now on this one; at once where Ctrl-C was pressed already. Called in its loop."""
        self._stop = asyncio.get_running_loop(), task
        if self._pressed:
            task.cancel()

    def _press(self, _: int, __: FrameType | None) -> None:
        self._pressed = True
        if self._stop is not None:
            loop, task = self._stop
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)  # wakes a loop that waits for the network
