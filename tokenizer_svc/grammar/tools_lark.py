"""Calls of tools as a grammar for llguidance, for schemas that no automaton holds.

The frame of a call is text in the grammar, the arguments are grammars of their own beside it.
Source: llguidance's docs/syntax.md, on tool calling, lazy lexemes and multiple grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec

from shared.grammar import Guidance, Whitespace
from tokenizer_svc.grammar.lark import check
from tokenizer_svc.grammar.tools_spec import ToolsSpec, frame
from tokenizer_svc.tools.formats import SPACE, SYNTAX, Syntax


def tools_guidance(spec: ToolsSpec, arguments: Sequence[str], whitespace: Whitespace, most: int) -> Guidance:
    """The grammar, given those of the tools' arguments in Lark; ``most`` calls where some are required.

    Raises GrammarError.
    """
    syntax = SYNTAX[spec.format]
    names = [f"arguments_{index}" for index in range(len(spec.tools))]
    calls: list[str] = []
    for tool, name in zip(spec.tools, names, strict=True):
        before, after = frame(spec.format, tool.name, whitespace)
        if not spec.required and not syntax.begin:
            before = before.removeprefix(syntax.marker)  # which the text before the call ends with
        calls.append(f"{json.dumps(before)} @{name} {json.dumps(after)}")
    whole = "\n".join([*_start(spec, syntax, most), f"call: {' | '.join(calls)}"])
    parts = [{"name": name, "lark_grammar": part} for name, part in zip(names, arguments, strict=True)]
    # the first grammar is the whole, and refers to the others by name
    grammar = msgspec.json.encode({"grammars": [{"lark_grammar": whole}, *parts]}).decode()
    check(grammar)
    return Guidance(grammar)


def _start(spec: ToolsSpec, syntax: Syntax, most: int) -> list[str]:
    """The rules above a single call, in the same language as the automaton's."""
    bound = f"{{0,{most - 1}}}" if spec.required else "*"
    more = f"({json.dumps(syntax.joiner)} call){bound}" if spec.parallel else ""
    if spec.required:
        return [f"start: {json.dumps(syntax.begin)} call {more} {json.dumps(syntax.end)}"]
    marker = "|".join(map(_escaped, syntax.markers))
    unmarked = f"~/(?s:.*)({marker})(?s:.*)/"
    if syntax.bare:
        space, bare = _escaped(SPACE), _escaped(syntax.bare)
        markers = " | ".join(map(json.dumps, syntax.markers))
        return [
            f"start: FREE | ({markers})? call {more}",
            f"FREE: /[{space}]*([^{space}{bare}](?s:.*))?/ & {unmarked}",
        ]
    run = "marked call"
    if syntax.begin:  # the marker is part of it
        run = f"marked {json.dumps(syntax.begin.removeprefix(syntax.marker))} call {more} {json.dumps(syntax.end)}"
    return [
        f"start: ({run})* FREE" if spec.parallel else f"start: FREE | {run}",
        f"marked[lazy]: /(?s:.*){_escaped(syntax.marker)}/",
        f"FREE: /(?s:.*)/ & {unmarked}",
    ]


def _escaped(text: str) -> str:
    """As part of a regex between slashes on one line."""
    return re.escape(text).replace("\\\n", "\\n").replace("\\\r", "\\r").replace("/", "\\/")
