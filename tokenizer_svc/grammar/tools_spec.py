"""What a grammar of tool calls is made of: the functions, the frame that a format puts around arguments, and what may
stand in place of calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shared.grammar import Whitespace
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.tools.formats import SYNTAX, Frame, ToolFormat


class ToolSpec(msgspec.Struct, frozen=True):
    """A function that may be called."""

    name: str
    parameters: Mapping[str, Any]  # a JSON Schema


class ToolsSpec(msgspec.Struct, frozen=True):
    """The text of a GrammarSpec of the kind TOOLS is this as JSON."""

    format: ToolFormat
    tools: tuple[ToolSpec, ...]
    required: bool  # whether the text is calls and nothing else
    parallel: bool  # whether there may be several


class EitherSpec(msgspec.Struct, frozen=True):
    """The text of a GrammarSpec of the kind EITHER is this as JSON: nothing but calls, or a text without any."""

    calls: ToolsSpec
    kind: Kind
    text: str

    def of_text(self, whitespace: Whitespace) -> GrammarSpec:
        """What the text is to be where it is no calls."""
        return GrammarSpec(self.kind, self.text, whitespace)

    @property
    def openings(self) -> tuple[str, ...]:
        """By which calls are told from the text."""
        return openings(self.calls.format, (tool.name for tool in self.calls.tools))


def frame(format: ToolFormat, name: str, whitespace: Whitespace) -> Frame:
    """The frame of a call of ``name``, with separators as the JSON of its arguments has them."""
    return SYNTAX[format].frame(name, *_SEPARATORS[whitespace])


def openings(format: ToolFormat, names: Iterable[str]) -> tuple[str, ...]:
    """How an answer of nothing but calls begins that a grammar binds, up to the first arguments, in all spellings."""
    begin = SYNTAX[format].begin
    found = (begin + frame(format, name, whitespace).before for name in names for whitespace in _SEPARATORS)
    return tuple(dict.fromkeys(found))


_WIDE = (", ", ": ")
_SEPARATORS = {Whitespace.COMPACT: (",", ":"), Whitespace.SPACED: _WIDE, Whitespace.FLEXIBLE: _WIDE}
