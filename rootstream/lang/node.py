"""What a program has said: an immutable tree of contexts, and the slots whose values are generated.

A node appends parts to its parent. It is planned, then runs as one call (or rides along with a child's), and is then
known. Owns the bookkeeping of one node; which nodes run when is plan.py's and program.py's.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rootstream.lang.calls import Result
from rootstream.lang.messages import message_of
from rootstream.lang.parts import Close, Gen, Message, Open, Part, Select, Text, Tools

Read = Callable[[str], Any]
"""How a generated text becomes a value. Raises ValueError."""


class Stage(enum.Enum):
    """How far a node is. One whose child said its parts stays planned."""

    PLANNED = enum.auto()
    RUNNING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


class Failure:
    """An error that whoever depends on it is told of; one that nobody saw is raised when its program ends."""

    __slots__ = ("_traceback", "error", "was_seen")

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.was_seen = False
        self._traceback = error.__traceback__

    def seen(self) -> BaseException:
        """The error, to be raised; with the traceback of where it came about, not of those who raised it before."""
        self.was_seen = True
        return self.error.with_traceback(self._traceback)


class Slot:
    """One Gen or Select that was recorded: its pieces as they come, and in the end its result or an error."""

    __slots__ = ("_value", "_watchers", "failure", "part", "pieces", "read", "result", "watched")

    def __init__(self, part: Gen | Select, read: Read | None = None) -> None:
        self.part = part
        self.read = read
        self.result: Result | None = None
        self.failure: Failure | None = None
        self.pieces: list[str] = []
        self.watched = False  # somebody wants the pieces as they come
        self._value: list[Any] | None = None
        self._watchers: list[asyncio.Future[None]] = []

    @property
    def settled(self) -> bool:
        return self.result is not None or self.failure is not None

    def changed(self) -> asyncio.Future[None]:
        """Done at the next piece, result or error."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(future)
        return future

    def add_piece(self, piece: str) -> None:
        self.pieces.append(piece)
        self._wake()

    def settle(self, result: Result) -> None:
        self.result = result
        if not self.pieces and result.text:
            self.pieces.append(result.text)
        self._wake()

    def fail(self, failure: Failure) -> None:
        if not self.settled:
            self.failure = failure
            self._wake()

    def leaves(self) -> Iterator[Slot]:
        yield self

    def known(self) -> Result:
        """Raises what went wrong; only when settled."""
        if self.failure is not None:
            raise self.failure.seen()
        assert self.result is not None
        return self.result

    def value(self) -> Any:
        """The text, the texts of an n > 1, or what they are read as. Raises what went wrong; only when settled."""
        result = self.known()
        if self._value is None:
            read = self.read or str
            many = isinstance(self.part, Gen) and self.part.n > 1
            self._value = [[read(text) for text in result.texts] if many else read(result.text)]
        return self._value[0]

    def _wake(self) -> None:
        watchers, self._watchers = self._watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)


class Node:
    """A context: ``parts`` after ``parent``. ``users``: the branches that stand here and the unknown children."""

    __slots__ = (
        "failure",
        "group",
        "id",
        "kept",
        "parent",
        "parts",
        "released",
        "slots",
        "stage",
        "tools",
        "users",
        "waiting",
    )

    def __init__(
        self,
        id: str,
        parent: Node | None,
        parts: tuple[Part, ...],
        slots: Sequence[Slot],
        group: str | None,
        tools: Tools | None,
    ) -> None:
        self.id = id
        self.parent = parent
        self.parts = parts
        self.slots = tuple(slots)  # of the Gens and Selects among the parts, in order
        self.group = group
        self.tools = tools
        self.stage = Stage.PLANNED
        self.kept = True
        self.released = False
        self.users = 0
        self.failure: Failure | None = None
        self.waiting: list[Callable[[], None]] = []  # told when it is known or has failed

    def lineage(self) -> list[Node]:
        """From the root to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def history(self) -> tuple[Part, ...]:
        """All from the root up to here, generated text as Text. Only where all of it is known."""
        return spoken(slotted for node in self.lineage() for slotted in with_slots(node.parts, node.slots))


def with_slots(parts: Sequence[Part], slots: Sequence[Slot]) -> Iterator[Part | Slot]:
    """The parts, with a slot in the place of each Gen and Select."""
    rest = iter(slots)
    for part in parts:
        yield next(rest) if isinstance(part, Gen | Select) else part


def spoken(parts: Iterator[Part | Slot]) -> tuple[Part, ...]:
    """The parts with what was generated in the place of slots.

    A message that holds calls of tools or reasoning cannot be written as text: it becomes a Message.
    """
    said: list[Part] = []
    opened: int | None = None  # where in `said` the open message begins
    beyond: dict[str, Any] = {}  # what the open message holds besides text
    for part in parts:
        match part:
            case Slot(result=result):
                if result is None:
                    raise LookupError(f"{part.part.name!r} has not run")
                _say(said, result.text)
                if result.tool_calls:
                    beyond["tool_calls"] = [*beyond.get("tool_calls", ()), *result.tool_calls]
                if result.reasoning_content:
                    beyond["reasoning_content"] = result.reasoning_content
            case Text(text):
                _say(said, text)
            case Open():
                opened, beyond = len(said), {}
                said.append(part)
            case Close():
                if beyond and opened is not None:
                    message = message_of(said[opened:])
                    del said[opened:]
                    said.append(Message({**message, "content": message["content"] or None, **beyond}))
                else:
                    said.append(part)
                opened = None
            case _:
                said.append(part)
    return tuple(said)


def _say(said: list[Part], text: str) -> None:
    last = said[-1] if said else None
    if isinstance(last, Text):
        said[-1] = Text(last.text + text)
    elif text:
        said.append(Text(text))
