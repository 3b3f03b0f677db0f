"""Lines of a program that go on side by side from the same place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from rootstream.lang.bodies import running
from rootstream.lang.branch import Branch, Gathered
from rootstream.lang.node import Failure, Slot
from rootstream.lang.parts import Said
from rootstream.lang.program import Program, settled
from rootstream.lang.waiting import may_wait, wait

if TYPE_CHECKING:
    from rootstream.lang.state import State


class Forks:
    """The branches of one fork: by number a State, by name the values of all in their order."""

    def __init__(self, program: Program, parent: Branch, states: Sequence[State], branches: Sequence[Branch]) -> None:
        self._program = program
        self._parent = parent
        self._states = tuple(states)
        self._branches = tuple(branches)

    @overload
    def __getitem__(self, key: int) -> State: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[State, ...]: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        """Values wait as a State's do."""
        if isinstance(key, str):
            return [state[key] for state in self._states]
        return self._states[key]

    def __setitem__(self, number: int, state: State) -> None:
        """For `forks[0] += …`, which Python ends with an assignment. Raises TypeError for any other state."""
        if self._states[number] is not state:
            raise TypeError("a fork's branches are what they are: say things with forks[0] += …")

    def __iter__(self) -> Iterator[State]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __iadd__(self, said: Said) -> Self:
        """Each of them says it."""
        for state in self._states:
            state += said
        return self

    async def get(self, name: str) -> list[Any]:
        """The values of all, in async bodies. Raises KeyError, CallError."""
        await self._ran()
        return self[name]

    def join(self) -> Awaitable[Self]:
        """Run what is left of all. Each of their values is then a list in the parent, None where a branch has none.

        Waits in a plain body; is to be awaited in an async one. Nothing is expected of the branches afterwards, though
        they may go on. Raises CallError, if one of them failed.
        """
        for branch in self._branches:
            self._program.end(branch)
        if not may_wait():
            return self._joined()
        wait(self._joined())
        return self

    def each(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> Any:
        """``function(branch, …)`` for all side by side, each with its own of every list of ``arguments``.

        The list of what they return; to be awaited in an async body. The first error ends them all.
        """
        calls = zip(self._states, *arguments, strict=True)
        side_by_side = _side_by_side([running(function, *call) for call in calls])
        return wait(side_by_side) if may_wait() else side_by_side

    def __await__(self) -> Generator[Any, None, Self]:
        """Run all that they have recorded. Raises CallError."""
        return self._ran().__await__()

    async def _joined(self) -> Self:
        await self._ran()
        inherited = self._parent.names
        names = {
            name: None
            for branch in self._branches
            for name, slot in branch.names.items()
            if slot is not inherited.get(name)
        }
        for name in names:
            own = (branch.names.get(name) for branch in self._branches)
            self._parent.names[name] = Gathered(tuple(None if slot is inherited.get(name) else slot for slot in own))
        return self

    async def _ran(self) -> Self:
        slots: list[Slot] = [branch.last for branch in self._branches if branch.last is not None]
        for slot in slots:
            await settled(self._program, slot)
        failures: list[Failure] = [slot.failure for slot in slots if slot.failure is not None]
        for failure in reversed(failures):
            failure.seen()  # one error tells of all
        if failures:
            raise failures[0].error
        return self


async def _side_by_side(bodies: Sequence[Awaitable[Any]]) -> list[Any]:
    tasks = [asyncio.ensure_future(body) for body in bodies]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
