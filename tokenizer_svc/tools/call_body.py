"""One call as its format writes it, read a character at a time: what every shape of calls has in common."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Protocol

Functions = Mapping[str, Mapping[str, Any]]
"""The functions that may be called: name to the JSON Schema of its arguments."""


class Step(enum.Enum):
    """What a character turned out to be."""

    TAKEN = enum.auto()
    END = enum.auto()  # the last of the call
    LAST = enum.auto()  # the last of the call, which no other may follow without a marker
    REFUSED = enum.auto()  # no part of it: the call is over, or was none


class CallBody(Protocol):
    """Reads one call. After REFUSED, END or LAST it takes no more."""

    @property
    def name(self) -> str | None:
        """The function, as soon as it is known to be one that may be called."""
        ...

    @property
    def has_arguments(self) -> bool:
        """Whether all of them have come."""
        ...

    def feed(self, char: str) -> Step:
        """Take the next character."""
        ...

    def written(self) -> str:
        """JSON text of the arguments, as far as it is certain and was not returned before."""
        ...


class Writing:
    """Text that is put together by one and taken away by another."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        self._parts.append(text)

    def take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        return text
