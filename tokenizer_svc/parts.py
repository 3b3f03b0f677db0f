"""What a model's text consists of, as clients see it: reasoning, content, and calls of tools.

The one vocabulary between whoever reads a text (reasoning/, tools/, put together in reading.py) and whoever gives it
the shape of an API. A text is a sequence of parts in the order in which the model wrote them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Reasoning(NamedTuple):
    """Text that the model thought aloud before its answer."""

    text: str


class Content(NamedTuple):
    """Text that is neither reasoning nor part of a call."""

    text: str


class Started(NamedTuple):
    """A call, counted from 0, of a function."""

    call: int
    name: str


class Arguments(NamedTuple):
    """More of a call's arguments: JSON text."""

    call: int
    text: str


class Ended(NamedTuple):
    """A call's arguments are over; complete when they are all there."""

    call: int
    is_complete: bool


CallPart = Content | Started | Arguments | Ended
Part = Reasoning | CallPart


class Call(NamedTuple):
    """A whole call."""

    name: str
    arguments: str
    is_complete: bool


class Reply(NamedTuple):
    """A whole answer."""

    reasoning: str
    content: str
    calls: tuple[Call, ...]


def joined(parts: Sequence[CallPart]) -> list[CallPart]:
    """The same with neighbours of a kind in one."""
    result: list[CallPart] = []
    for _, neighbours in itertools.groupby(parts, key=type):
        run = list(neighbours)
        text = "".join(part.text for part in run if isinstance(part, Content | Arguments))
        match run[0]:
            case Content():
                result.append(Content(text))
            case Arguments(call):
                result.append(Arguments(call, text))
            case _:
                result += run
    return result


def reply_of(parts: Sequence[Part]) -> Reply:
    """What the parts of an answer amount to."""
    reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
    content = "".join(part.text for part in parts if isinstance(part, Content))
    names = [part.name for part in parts if isinstance(part, Started)]
    arguments = [""] * len(names)
    complete = [False] * len(names)
    for part in parts:
        if isinstance(part, Arguments):
            arguments[part.call] += part.text
        elif isinstance(part, Ended):
            complete[part.call] = part.is_complete
    return Reply(reasoning, content, tuple(map(Call, names, arguments, complete)))
