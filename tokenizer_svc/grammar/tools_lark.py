"""Calls of tools as a grammar for llguidance, for schemas that no automaton holds.

The frame of a call is text in the grammar, the arguments are grammars of their own beside it.
Source: llguidance's docs/syntax.md, on tool calling, lazy lexemes and multiple grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.grammar import Guidance, Whitespace
from tokenizer_svc.grammar.lark import check
from tokenizer_svc.grammar.tools_spec import ToolsSpec, frame
from tokenizer_svc.tools.formats import SPACE, SYNTAX, Syntax


class _Grammars(msgspec.Struct, frozen=True):
    """llguidance's serialised form: the first grammar is the whole, and may refer to the others by name."""

    grammars: list[dict[str, Any]]


def tools_guidance(spec: ToolsSpec, arguments: Sequence[Guidance], whitespace: Whitespace) -> Guidance:
    """The grammar, given those of the tools' arguments. Raises GrammarError."""
    syntax = SYNTAX[spec.format]
    lines = [f"call: {' | '.join(f'call_{index}' for index in range(len(spec.tools)))}"]
    parts: list[dict[str, Any]] = []
    for index, (tool, part) in enumerate(zip(spec.tools, arguments, strict=True)):
        before, after = frame(spec.format, tool.name, whitespace)
        if not spec.required:
            before = before.removeprefix(syntax.marker)  # which the text before the call ends with
        lines.append(f"call_{index}: {json.dumps(before)} @arguments_{index} {json.dumps(after)}")
        [only] = msgspec.json.decode(part.grammar, type=_Grammars).grammars
        parts.append({**only, "name": f"arguments_{index}"})
    whole = {"lark_grammar": "\n".join([*_start(spec, syntax), *lines])}
    grammar = msgspec.json.encode(_Grammars([whole, *parts])).decode()
    check(grammar)
    return Guidance(grammar)


def _start(spec: ToolsSpec, syntax: Syntax) -> list[str]:
    """The rules above a single call, in the same language as the automaton's."""
    more = f"({json.dumps(syntax.joiner)} call)*" if spec.parallel else ""
    if spec.required:
        return [f"start: call {more}"]
    marker = _escaped(syntax.marker)
    unmarked = f"~/(?s:.*){marker}(?s:.*)/"
    if syntax.is_bare:
        space = _escaped(SPACE)
        return [
            f"start: FREE | {json.dumps(syntax.marker)}? call {more}",
            f"FREE: /[{space}]*([^{space}{{](?s:.*))?/ & {unmarked}",
        ]
    return [
        "start: (marked call)* FREE" if spec.parallel else "start: FREE | marked call",
        f"marked[lazy]: /(?s:.*){marker}/",
        f"FREE: /(?s:.*)/ & {unmarked}",
    ]


def _escaped(text: str) -> str:
    """As part of a regex between slashes on one line."""
    return re.escape(text).replace("\\\n", "\\n").replace("\\\r", "\\r").replace("/", "\\/")
