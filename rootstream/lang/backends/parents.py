"""What became of contexts that the server has lost: under which names they were made again.

Knows nothing of servers; whoever uses it makes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

_KEPT = 10_000  # names; programs release what they have made, so that losses alone can fill this


class Parents:
    """Names of contexts made again, and the makings under way. One for each event loop."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._making: dict[str, asyncio.Task[str]] = {}

    def name(self, parent: str | None) -> str | None:
        """Under which the server knows it now, as far as is known."""
        return self._names.get(parent, parent) if parent is not None and self._names else parent

    async def made(self, parent: str, lost: str, make: Callable[[], Coroutine[None, None, str]]) -> str:
        """A name that is not ``lost``. However many ask for a parent meanwhile, ``make`` runs once; whoever is
        cancelled takes nothing from the others. Raises what ``make`` raises.
        """
        known = self._names.get(parent, parent)
        if known != lost:
            return known
        making = self._making.get(parent)
        if making is None:
            making = self._making[parent] = asyncio.create_task(make())
            making.add_done_callback(lambda done: self._note(parent, done))
        return await asyncio.shield(making)

    def forget(self, parents: tuple[str, ...]) -> tuple[str, ...]:
        """Nobody goes on from these; with the names under which they were made again."""
        if not self._names:
            return parents
        again = [self._names.pop(parent) for parent in parents if parent in self._names]
        return (*parents, *again)

    def close(self) -> None:
        """Make no more."""
        for making in self._making.values():
            making.cancel()
        self._making.clear()

    def _note(self, parent: str, making: asyncio.Task[str]) -> None:
        if self._making.get(parent) is making:
            del self._making[parent]
        if making.cancelled() or making.exception() is not None:  # whoever waits is told
            return
        self._names[parent] = making.result()
        if len(self._names) > _KEPT:
            del self._names[next(iter(self._names))]
