"""What a grammar of tool calls is made of: the functions, and the frame that a format puts around arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.grammar import Whitespace
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


def frame(format: ToolFormat, name: str, whitespace: Whitespace) -> Frame:
    """The frame of a call of ``name``, with separators as the JSON of its arguments has them."""
    separators = (",", ":") if whitespace is Whitespace.COMPACT else (", ", ": ")
    return SYNTAX[format].frame(name, *separators)
