"""One line of a program: where it stands in the tree, what it has recorded since, and the names of its values.

Owns the rules of what may be said where. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from rootstream.lang.node import Failure, Node, Slot, with_slots
from rootstream.lang.parts import (
    Close,
    Gen,
    Image,
    Message,
    Open,
    Part,
    Parts,
    Role,
    Said,
    Saying,
    Select,
    Text,
    Tools,
    Typed,
)
from rootstream.lang.seeds import derived_seed


class Manner(NamedTuple):
    """How a whole program speaks: what its generations are asked with where they do not say."""

    defaults: Mapping[str, Any]
    seed: int | None = None
    template_kwargs: Mapping[str, Any] = MappingProxyType({})
    stream: bool = False


class Misplaced(ValueError):
    """Said where it cannot be."""


class Gathered:
    """The values that joined forks gave one name."""

    __slots__ = ("slots",)

    def __init__(self, slots: tuple[Slot | Gathered | None, ...]) -> None:
        self.slots = slots

    @property
    def settled(self) -> bool:
        return all(slot is None or slot.settled for slot in self.slots)

    def value(self) -> list[Any]:
        return [None if slot is None else slot.value() for slot in self.slots]

    def leaves(self) -> Iterator[Slot]:
        for slot in self.slots:
            if slot is not None:
                yield from slot.leaves()


class Branch:
    """``base``, and what was recorded since: ``pending`` parts, of which ``fresh`` are to be generated."""

    __slots__ = (
        "base",
        "count",
        "ended",
        "failure",
        "forked",
        "fresh",
        "group",
        "holds",
        "is_chat",
        "last",
        "manner",
        "names",
        "path",
        "pending",
        "role",
        "tools",
        "waits",
    )

    def __init__(self, manner: Manner, path: str = "0") -> None:
        self.manner = manner
        self.path = path  # which fork of which fork it is: for seeds
        self.base: Node | None = None
        self.holds = False  # whether it counts among the users of its base
        self.pending: list[Part] = []
        self.fresh: list[Slot] = []
        self.last: Slot | None = None  # the latest generation: once it is known, all before it are
        self.names: dict[str, Slot | Gathered] = {}
        self.tools: Tools | None = None
        self.group: str | None = None
        self.count = 0  # generations so far
        self.forked = 0  # forks so far
        self.is_chat: bool | None = None  # unknown until something is said
        self.role: Role | None = None  # of the open message
        self.waits = False  # for its base to be known
        self.ended = False
        self.failure: Failure | None = None

    def child(self, number: int, group: str) -> Branch:
        """One that goes on from here and knows what is known here; nothing may be pending."""
        child = Branch(self.manner, f"{self.path}.{self.forked}.{number}")
        child.base = self.base
        child.last = self.last
        child.names = self.names.copy()
        child.tools = self.tools
        child.group = group
        child.is_chat, child.role = self.is_chat, self.role
        child.failure = self.failure
        return child

    def said(self) -> Iterator[Part | Slot]:
        """Everything from the root, recorded parts included."""
        if self.base is not None:
            for node in self.base.lineage():
                yield from with_slots(node.parts, node.slots)
        yield from with_slots(self.pending, self.fresh)

    def record(self, said: Said) -> None:
        """Raises Misplaced, TypeError for what nobody can say."""
        for saying in Parts.of(said):
            self._record(saying)

    def _record(self, saying: Saying) -> None:
        match saying:
            case Text():
                self._content("text")
                self.pending.append(saying)
            case Gen() | Select():
                self._generate(saying, None)
            case Typed(gen, read):
                self._generate(gen, read)
            case Open(role):
                self._chat("a message")
                self._outside(f"{role} message")
                self.role = role
                self.pending.append(saying)
            case Close():
                if self.role is None:
                    raise Misplaced("no message is open that could be closed")
                self.role = None
                self.pending.append(saying)
            case Message():
                self._chat("a message")
                self._outside("message")
                self.pending.append(saying)
            case Image():
                self._content("an image")
                self.pending.append(saying)
            case Tools():
                if self.base is not None and saying != self.tools:
                    raise Misplaced("tools are of the whole conversation: name them at its beginning")
                self.tools = saying

    def _generate(self, part: Gen | Select, read: Callable[[str], Any] | None) -> None:
        self._content(f"{part.name!r}")
        if self.is_chat and self.role != "assistant":
            where = f"in the {self.role}'s message" if self.role else "outside a message"
            raise Misplaced(
                f"{part.name!r} would be generated {where}: the model speaks as the assistant, "
                f"as in assistant(gen({part.name!r}))"
            )
        slot = Slot(self._with_defaults(part) if isinstance(part, Gen) else part, read)
        self.count += 1
        self.pending.append(slot.part)
        self.fresh.append(slot)
        self.last = self.names[part.name] = slot

    def _with_defaults(self, gen: Gen) -> Gen:
        changes = {name: value for name, value in self.manner.defaults.items() if _unsaid(getattr(gen, name))}
        if gen.seed is None and self.manner.seed is not None:
            changes["seed"] = derived_seed(self.manner.seed, self.path, self.count)
        return msgspec.structs.replace(gen, **changes) if changes else gen

    def _content(self, what: str) -> None:
        if self.is_chat is None:
            self.is_chat = False
        elif self.is_chat and self.role is None:
            raise Misplaced(f"{what} outside a message, in a conversation: say who says it, as in user(…)")

    def _chat(self, what: str) -> None:
        if self.is_chat is False:
            raise Misplaced(f"{what} after text outside messages: a program is either a conversation or plain text")
        self.is_chat = True

    def _outside(self, what: str) -> None:
        if self.role is not None:
            raise Misplaced(f"a {what} inside the {self.role}'s message")


def _unsaid(value: Any) -> bool:
    return value is None or value is False or value == ()
