"""A server counts the parts of a call; those who wrote the program know them by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rootstream.lang.calls import CallError
from rootstream.lang.parts import Close, Gen, Image, Message, Open, Part, Select, Text

_PLACE = re.compile(r"parts\[(\d+)\]")
_SHOWN = 30  # characters of a text


def explain(error: CallError, parts: Sequence[Part]) -> None:
    """Add to an error's message which part of the program it names as `parts[…]`."""
    found = _PLACE.search(str(error))
    place = int(found[1]) if found else len(parts)
    if place < len(parts):
        error.args = (f"{error}; parts[{place}] is {described(parts[place])}",)


def described(part: Part) -> str:
    """A part in the program's words."""
    match part:
        case Gen(name=name):
            return f"gen({name!r})"
        case Select(name=name):
            return f"select({name!r})"
        case Text(text):
            return f"the text {text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
        case Open(role):
            return f"the beginning of a message of the {role}"
        case Close():
            return "the end of a message"
        case Message(message):
            return f"a message of the {message.get('role')}"
        case Image():
            return "an image"
