"""Calls of tools in OpenAI's shape: in the deltas of a stream, and in whole messages.

The first delta of a call has its id, type and name, the later ones arguments. Ids follow from the request, the choice
and the call, so that they are unique without being drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType

from shared.protocol import Finish
from tokenizer_svc.answers import Answer, Choice
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat
from tokenizer_svc.tools.stream import Arguments, Content, Ended, Event, Started, ToolStream, read_reply
from tokenizer_svc.tools.toolbox import Toolbox


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


class Message(NamedTuple):
    """The answer of one choice: without content only where there are calls."""

    content: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None  # None where the calls do not decide it


class Progress(NamedTuple):
    """What a piece of text adds to a choice: content or calls, in their order."""

    parts: Sequence[str | ToolCallDelta]
    finish_reason: str | None  # None where the calls do not decide it


class ToolAnswers:
    """The calls in all choices of one answer."""

    def __init__(self, answer: Answer, format: ToolFormat, toolbox: Toolbox) -> None:
        self._streams = [
            ToolStream(SYNTAX[format], toolbox.allowed, only_calls=toolbox.is_required) for _ in answer.choices
        ]
        self._endings: list[list[bool]] = [[] for _ in answer.choices]  # by choice and call: is it complete

    def push(self, choice: Choice, text: str, finish: Finish) -> Progress:
        """Take the next piece of a choice's text."""
        stream = self._streams[choice.index]
        events = stream.push(text)
        if finish is not Finish.NONE:
            events += stream.finish()
        endings = self._endings[choice.index]
        endings += (event.is_complete for event in events if isinstance(event, Ended))
        parts = [part for event in events if (part := _part(choice, event)) is not None]
        return Progress(parts, _finish_reason(endings, finish))

    def whole(self, choice: Choice, text: str) -> Message:
        """Read a whole text."""
        stream = self._streams[choice.index]
        reply = read_reply(stream.push(text) + stream.finish())
        calls = tuple(
            ToolCall(_id(choice, index), "function", Function(call.name, call.arguments))
            for index, call in enumerate(reply.calls)
        )
        reason = _finish_reason([call.is_complete for call in reply.calls], choice.finish)
        return Message(reply.content or (None if calls else ""), calls, reason)


def _part(choice: Choice, event: Event) -> str | ToolCallDelta | None:
    match event:
        case Content(text):
            return text
        case Started(call, name):
            return ToolCallDelta(call, _id(choice, call), "function", FunctionDelta("", name))
        case Arguments(call, text):
            return ToolCallDelta(call, function=FunctionDelta(text))
        case Ended():
            return None


def _id(choice: Choice, call: int) -> str:
    return f"call_{choice.id:016x}_{call}"


def _finish_reason(endings: Sequence[bool], finish: Finish) -> str | None:
    """A stop after complete calls is a wish to have them made; one within a call has cut it, whatever the cause."""
    if finish is not Finish.STOP or not endings:
        return None
    return "tool_calls" if all(endings) else "length"
