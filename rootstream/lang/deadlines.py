"""Blocks that end in time: a deadline interrupts what its block waits for, and the calls that were made for it.

Knows tasks, and nothing of programs.
"""

from __future__ import annotations

import asyncio
import contextvars
from types import TracebackType
from typing import Any, Self

from rootstream.lang.calls import CallError


class DeadlineExceeded(CallError, TimeoutError):
    """It took longer than its deadline allows."""


class Deadline:
    """`with deadline(seconds):` in a program's body, plain or async: used once."""

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a deadline is some seconds from now, not {seconds}")
        self.seconds = seconds
        self.expired = False
        self.ends_at = 0.0
        self._calls: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._loop = task, loop
        self._cancelling = task.cancelling()
        self.ends_at = loop.time() + self.seconds
        outer = _current.get()
        if outer is not None:
            self.ends_at = min(self.ends_at, outer.ends_at)
        self._timer = loop.call_at(loop.time() + self.seconds, self._expire)
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self._timer.cancel()
        if (
            self.expired
            and self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise self.exceeded() from error

    def left(self) -> float:
        """Seconds, by the nearest deadline; never below zero."""
        return max(0.0, self.ends_at - self._loop.time())

    def covers(self, call: asyncio.Task[Any]) -> None:
        """``call`` is cancelled when the time is up."""
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"not done after {self.seconds:g} s: give it more time, or less to do", code="deadline")

    def _expire(self) -> None:
        self.expired = True
        for call in self._calls:
            call.cancel()
        self._task.cancel()


_current: contextvars.ContextVar[Deadline | None] = contextvars.ContextVar("deadline", default=None)


def current_deadline() -> Deadline | None:
    """The nearest one around this."""
    return _current.get()


def deadline(seconds: float) -> Deadline:
    """A block that ends in time, for `with`. Raises DeadlineExceeded where the block waits; its calls are cancelled.

    Blocks nest: the nearest deadline counts.
    """
    return Deadline(seconds)
