"""Calls of tools in OpenAI's shape: in the deltas of a stream, and in whole messages.

The first delta of a call has its id, type and name, the later ones arguments. Ids follow from the request, the choice
and the call, so that they are unique without being drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from tokenizer_svc.answers import Choice
from tokenizer_svc.parts import Arguments, Call, Started
from tokenizer_svc.reading import call_id


class Function(Struct, frozen=True):
    """A whole call's name and arguments."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    """A whole call."""

    id: str
    type: str
    function: Function


class FunctionDelta(Struct, frozen=True):
    """What a delta adds to a function."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(Struct, frozen=True):
    """What a delta adds to a call."""

    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET


def tool_calls(choice: Choice, calls: Sequence[Call]) -> tuple[ToolCall, ...]:
    """The calls of a whole message."""
    return tuple(
        ToolCall(call_id(choice, index), "function", Function(call.name, call.arguments))
        for index, call in enumerate(calls)
    )


def call_delta(choice: Choice, part: Started | Arguments) -> ToolCallDelta:
    """What a part of a call is in a stream."""
    match part:
        case Started(call, name):
            return ToolCallDelta(call, call_id(choice, call), "function", FunctionDelta("", name))
        case Arguments(call, text):
            return ToolCallDelta(call, function=FunctionDelta(text))
