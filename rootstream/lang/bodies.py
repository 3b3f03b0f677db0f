"""Bodies of programs, plain or async, as coroutines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rootstream.lang.waiting import suspendable


async def running(body: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What ``body`` returns. Where it is plain, it may wait; what it returns is awaited if it can be."""
    if inspect.iscoroutinefunction(body):
        return await body(*args, **keywords)
    returned = await suspendable(body, *args, **keywords)
    return await returned if inspect.iscoroutine(returned) else returned
