"""What a program's body holds in its hand: says things, reads values, forks. A view of one branch.

In a plain body reading waits; in an async body one awaits before one reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rootstream.lang.branch import Branch, Gathered
from rootstream.lang.calls import Result, Usage
from rootstream.lang.messages import messages_of, text_of
from rootstream.lang.node import Slot, spoken
from rootstream.lang.notebook import known, state_html
from rootstream.lang.parts import Close, Open, Part, Parts, Role, Said, Text
from rootstream.lang.program import Cancelled, Program, settled
from rootstream.lang.says import tools as tools_said
from rootstream.lang.tools import Tool, ToolCall, tool_calls_of
from rootstream.lang.waiting import may_wait, wait

if TYPE_CHECKING:
    from rootstream.lang.forks import Forks


class NotReady(RuntimeError):
    """A value that an async body reads before it awaited it."""


class State:
    """One line of a program. ``s += …`` records; values run when they are demanded."""

    def __init__(self, program: Program, branch: Branch) -> None:
        self._program = program
        self._branch = branch

    # -- saying

    def __iadd__(self, said: Said) -> Self:
        """Record text, gen, select, messages, or a sum of them. Raises Misplaced, TypeError, Ended."""
        self._program.check_open()
        self._branch.record(said)
        self._program.recorded(self._branch)
        return self

    def system(self, said: Said | None = None) -> Speaking:
        """`with s.system(): s += …`, or `s.system(…)` at once; the other roles likewise."""
        return self._speak("system", said)

    def developer(self, said: Said | None = None) -> Speaking:
        return self._speak("developer", said)

    def user(self, said: Said | None = None) -> Speaking:
        return self._speak("user", said)

    def assistant(self, said: Said | None = None) -> Speaking:
        return self._speak("assistant", said)

    def _speak(self, role: Role, said: Said | None) -> Speaking:
        self += Parts((Open(role),))
        if said is not None:
            self += Parts((*Parts.of(said), Close()))
        return Speaking(self, is_open=said is None)

    @property
    def tools(self) -> tuple[dict[str, Any], ...]:
        """What the model may call, as chat APIs describe it; to be set before anything else is said."""
        tools = self._branch.tools
        return () if tools is None else tools.schemas

    @tools.setter
    def tools(self, tools: Iterable[Tool]) -> None:
        self += tools_said(tools)

    # -- forking

    def fork(self, n: int) -> Forks:
        """``n`` lines that go on from here, side by side; what is said so far is computed once."""
        from rootstream.lang.forks import Forks

        self._program.check_open()
        if n < 1:
            raise ValueError(f"a fork has 1 branch or more, not {n}")
        branches = self._program.fork(self._branch, n)
        states = [State(self._program, branch) for branch in branches]
        return Forks(self._program, self._branch, states, branches)

    def copy(self) -> State:
        """One more line that goes on from here."""
        return self.fork(1)[0]

    # -- reading

    def __getitem__(self, name: str) -> Any:
        """The value: waits in a plain body; raises NotReady in an async one that did not await, KeyError, CallError."""
        return self._demanded(name).value()

    def __contains__(self, name: object) -> bool:
        return name in self._branch.names

    def names(self) -> tuple[str, ...]:
        """Of all values, those that have not run among them."""
        return tuple(self._branch.names)

    async def get(self, name: str) -> Any:
        """The value, in async bodies. Raises KeyError, CallError."""
        slot = await self._named(name)
        await settled(self._program, slot)
        return slot.value()

    def meta(self, name: str) -> Result:
        """How a value came about: its finish_reason, tokens, scores and so on. Raises as reading it does."""
        slot = self._demanded(name)
        if isinstance(slot, Gathered):
            raise KeyError(f"{name!r} was gathered from forks: ask them, as in forks[0].meta({name!r})")
        return slot.known()

    def tool_calls(self, name: str) -> tuple[ToolCall, ...]:
        """What the model wants to be called. Raises as reading does, and ValueError for arguments that are no JSON."""
        return tool_calls_of(self.meta(name).tool_calls, self._branch.tools)

    def said(self) -> Iterator[Part | Slot]:
        """All parts from the beginning as they were recorded, with a Slot for each generation. Never waits."""
        return self._branch.said()

    def text(self) -> str:
        """All that was said, from the beginning; of a conversation, lines of `role: content`."""
        self._run_to_end()
        return text_of(spoken(self._branch.said()))

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as chat APIs write it. Raises ValueError for a program without roles."""
        self._run_to_end()
        return messages_of(spoken(self._branch.said()))

    @property
    def usage(self) -> Usage:
        """Tokens of all calls of the program so far, its forks' too."""
        return self._program.usage

    @property
    def returned(self) -> Any:
        """What the body returned."""
        return self._program.returned

    @property
    def error(self) -> BaseException | None:
        """What ended the program, if it was an error."""
        return self._program.error

    def __await__(self) -> Generator[Any, None, Self]:
        """Run all that this line has recorded. Raises CallError."""
        return self._ran().__await__()

    async def stream(self, name: str | None = None) -> AsyncGenerator[str]:
        """The pieces of a value's text as they come; without a name, all that is said. Raises KeyError, CallError."""
        if name is not None:
            slot = await self._named(name)
            for leaf in slot.leaves():
                async for piece in self._pieces(leaf):
                    yield piece
            return
        async for said in self._sayings():
            if isinstance(said, Text):
                yield said.text
            elif isinstance(said, Slot):
                async for piece in self._pieces(said):
                    yield piece

    def text_iter(self, name: str | None = None) -> Iterator[str]:
        """The same in a plain body, and after the program's end."""
        if self._program.has_ended:
            yield from self._known_pieces(name)
            return
        pieces = self.stream(name)
        try:
            while True:
                piece = self._wait_for(anext(pieces, None))
                if piece is None:
                    return
                yield piece
        finally:
            self._wait_for(pieces.aclose())

    def __repr__(self) -> str:
        ended = "ended" if self._program.has_ended else "running"
        return f"<State {self._branch.path}, {ended}: {', '.join(self.names()) or 'no values'}>"

    def _repr_html_(self) -> str:
        """For notebooks: what is known so far; nothing is run for it."""
        return state_html(self._branch.said(), known(self._branch.names), self.usage, self.error)

    # -- waiting

    async def _ran(self) -> Self:
        last = self._branch.last
        if last is not None:
            await settled(self._program, last)
            last.known()
        return self

    def _run_to_end(self) -> None:
        last = self._branch.last
        if last is not None:
            self._settle(last, "this line")
            last.known()

    def _demanded(self, name: str) -> Slot | Gathered:
        slot = self._branch.names.get(name)
        if slot is None:
            raise self._unknown(name)
        self._settle(slot, repr(name))
        return slot

    def _settle(self, slot: Slot | Gathered, what: str) -> None:
        if slot.settled:
            return
        if not may_wait():
            raise NotReady(f"{what} has not run yet: `await s` before reading it, or `await s.get(…)`")
        wait(settled(self._program, slot))

    def _wait_for(self, awaitable: Any) -> Any:
        return wait(awaitable)

    async def _named(self, name: str) -> Slot | Gathered:
        slot = self._branch.names.get(name)
        if slot is None:
            raise self._unknown(name)
        return slot

    async def _sayings(self) -> AsyncGenerator[Part | Slot]:
        for saying in list(self._branch.said()):
            yield saying

    def _unknown(self, name: str) -> KeyError:
        known = ", ".join(map(repr, self._branch.names)) or "none yet"
        return KeyError(f"no value is called {name!r}: there is {known}")

    def _known_pieces(self, name: str | None) -> Iterator[str]:
        for said in self._branch.said() if name is None else self._demanded(name).leaves():
            if isinstance(said, Text):
                yield said.text
            elif isinstance(said, Slot):
                said.known()
                yield from said.pieces

    async def _pieces(self, slot: Slot) -> AsyncGenerator[str]:
        slot.watched = True
        self._program.flush()
        given = 0
        while True:
            while given < len(slot.pieces):
                given += 1
                yield slot.pieces[given - 1]
            if slot.settled:
                slot.known()
                return
            await slot.changed()


class Speaking:
    """A message that is open while its `with` lasts."""

    def __init__(self, state: State, is_open: bool) -> None:
        self._state = state
        self._is_open = is_open

    def __enter__(self) -> State:
        if not self._is_open:
            raise TypeError("this message is complete: use `with s.user():` without an argument")
        return self._state

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._state += Parts((Close(),))


class Running(State):
    """A program that runs beside us. Awaiting it waits for its end; values are waited for until they are said."""

    def cancel(self) -> None:
        """End the program, and its calls at the server."""
        assert self._program.task is not None
        self._program.task.cancel()

    async def _ran(self) -> Self:
        task = self._program.task
        assert task is not None
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if task.cancelled() and waiting is not None and not waiting.cancelling():
                raise Cancelled("the program was cancelled") from None
            raise
        return self

    async def _named(self, name: str) -> Slot | Gathered:
        while name not in self._branch.names and not self._program.has_ended:
            await self._program.news()
        if name not in self._branch.names and self._program.error is not None:
            raise self._program.error
        return await super()._named(name)

    async def _sayings(self) -> AsyncGenerator[Part | Slot]:
        given = 0
        while True:
            ended = self._program.has_ended
            for saying in list(self._branch.said())[given:]:
                given += 1
                yield saying
            if ended:
                break
            if given == sum(1 for _ in self._branch.said()) and not self._program.has_ended:
                await self._program.news()
        if self._program.error is not None:
            raise self._program.error
