"""Plain functions that wait inside an event loop: each runs in a greenlet, which hands what it waits for to its task.

No threads: a body that waits gives the loop back, and costs its stack. Knows nothing of programs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import greenlet

T = TypeVar("T")


class _Body(greenlet.greenlet):
    """A plain function that may wait."""


async def suspendable(function: Callable[..., T], *args: Any, **keywords: Any) -> T:
    """The function's result; wherever it calls wait(), the task awaits in its stead.

    Its context variables are the task's.
    """
    body = _Body(function)
    body.gr_context = greenlet.getcurrent().gr_context  # the same, not a copy: what it sets holds for what it awaits
    wanted = body.switch(*args, **keywords)
    while not body.dead:
        try:
            value = await wanted
        except BaseException as error:  # noqa: BLE001 - cancellation too belongs to the body, which may catch it
            wanted = body.throw(error)
        else:
            wanted = body.switch(value)
    return cast("T", wanted)


def may_wait() -> bool:
    """Whether wait() works here."""
    return isinstance(greenlet.getcurrent(), _Body)


def wait(awaitable: Awaitable[T]) -> T:
    """What ``awaitable`` comes to, in a plain function that runs as (part of) a program's body."""
    body = greenlet.getcurrent()
    if not isinstance(body, _Body):
        close: Callable[[], None] | None = getattr(awaitable, "close", None)
        if close is not None:
            close()  # else Python warns of a coroutine that nobody awaited, beside the true error
        raise RuntimeError("nothing can wait here without `await`: this is no plain function of a running program")
    assert body.parent is not None
    return body.parent.switch(awaitable)
