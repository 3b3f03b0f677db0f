"""What an answer to a conversation is made of, in the order in which it is said: thoughts, words, calls of tools.

For the APIs that have a place for each. Knows nothing of their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.protocol import Finish
from tokenizer_svc.answers import Choice
from tokenizer_svc.tools.answers import ToolAnswers, ToolCallDelta


class Thought(NamedTuple):
    """More of what the model thinks before it answers."""

    text: str


class Words(NamedTuple):
    """More of the answer's text."""

    text: str


class CallBegun(NamedTuple):
    """The model calls a function."""

    id: str
    name: str


class CallArguments(NamedTuple):
    """More of the arguments of the call that was begun last: JSON text."""

    text: str


Part = Thought | Words | CallBegun | CallArguments


class Ending(NamedTuple):
    """How a reply ended."""

    finish: Finish
    matched: str | int | None
    wants_results: bool  # whether it ends with calls that are complete


class ReplyParts:
    """The parts of one choice. A pure fold: they do not depend on how the text was cut, but for their sizes."""

    def __init__(self, choice: Choice, tools: ToolAnswers | None) -> None:
        """``tools``: reads calls out of the text; without it all of it is words."""
        self._choice = choice
        self._tools = tools
        self.ending: Ending | None = None

    def push(self, text: str, finish: Finish) -> list[Part]:
        """The parts that the next piece of text adds."""
        if self._tools is None:
            parts: Sequence[str | ToolCallDelta] = (text,) if text else ()
            reason = None
        else:
            parts, reason = self._tools.push(self._choice, text, finish)
        if finish is not Finish.NONE:
            cut = Finish.LENGTH if reason == "length" else finish
            self.ending = Ending(cut, self._choice.matched, reason == "tool_calls")
        return [part for each in parts for part in _parts(each)]


def _parts(said: str | ToolCallDelta) -> list[Part]:
    if isinstance(said, str):
        return [Words(said)] if said else []
    found: list[Part] = []
    function = said.function
    if isinstance(said.id, str) and function and isinstance(function.name, str):
        found.append(CallBegun(said.id, function.name))
    if function and function.arguments:
        found.append(CallArguments(function.arguments))
    return found
