"""Remarks that a backend makes while it answers a call: that it tries again, that it waits.

Whoever wraps the backend may listen; without a listener a note costs one look. Knows nothing of files or servers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[str, dict[str, Any]], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def note(what: str, **details: Any) -> None:
    """Say something of the call that is being answered. ``wait_s`` among the details: nothing happens for so long."""
    if (listener := _listener.get()) is not None:
        listener(what, details)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Hear the notes of this task and of those that it starts."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
