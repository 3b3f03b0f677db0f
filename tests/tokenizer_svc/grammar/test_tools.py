"""Grammars of tool calls: the automaton and llguidance's form against the parser that reads calls, and each other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from shared.grammar import Whitespace, tables
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.lark import byte_vocabulary
from tokenizer_svc.grammar.regex import parse
from tokenizer_svc.grammar.tools_lark import tools_guidance
from tokenizer_svc.grammar.tools_node import tools_node
from tokenizer_svc.grammar.tools_spec import ToolSpec, ToolsSpec, frame
from tokenizer_svc.parts import reply_of
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat, bound
from tokenizer_svc.tools.stream import ToolStream

ARGUMENTS = {"f": r'\{"n": [0-9]{1,3}\}', "get_wind": r'\{\}|\{"to": "[^"\\]*"\}'}
"""What the tools take, as patterns."""

MOST = 3  # required calls

FORMATS = pytest.mark.parametrize("format", [format for format in ToolFormat if bound(format) is format])


def spec(format: ToolFormat, *, required: bool, parallel: bool) -> ToolsSpec:
    return ToolsSpec(format, tuple(ToolSpec(name, {}) for name in ARGUMENTS), required, parallel)


def automaton(spec: ToolsSpec) -> Callable[[str], bool]:
    node = tools_node(spec, [parse(ARGUMENTS[tool.name]) for tool in spec.tools], Whitespace.SPACED, MOST)
    compiled = tables(compile_dfa(node))
    return lambda text: compiled.matches(text.encode())


def guided(spec: ToolsSpec) -> Callable[[str], bool]:
    parts = [f"start: /{ARGUMENTS[tool.name]}/" for tool in spec.tools]
    grammar = tools_guidance(spec, parts, Whitespace.SPACED, MOST).grammar

    def matches(text: str) -> bool:
        return consumes(grammar, text)

    return matches


def consumes(grammar: str, text: str) -> bool:
    matcher = LLMatcher(byte_vocabulary(), grammar)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


def call(format: ToolFormat, name: str, arguments: str) -> str:
    before, after = frame(format, name, Whitespace.SPACED)
    return before + arguments + after


def reference(spec: ToolsSpec) -> re.Pattern[str]:
    """The same language for Python's re, which can look ahead."""
    syntax = SYNTAX[spec.format]
    frames = [frame(spec.format, name, Whitespace.SPACED) for name in ARGUMENTS]
    options = [
        re.escape(before) + f"(?:{arguments})" + re.escape(after)
        for (before, after), arguments in zip(frames, ARGUMENTS.values(), strict=True)
    ]
    call = f"(?:{'|'.join(options)})"
    more = f"{{0,{MOST - 1}}}" if spec.required else "*"
    calls = f"{call}(?:{re.escape(syntax.joiner)}{call}){more}" if spec.parallel else call
    calls = f"(?:{re.escape(syntax.begin)}{calls}{re.escape(syntax.end)})"
    marker = "|".join(map(re.escape, syntax.markers))
    free = f"(?:(?!{marker}).)*"
    if spec.required:
        pattern = calls
    elif syntax.bare:
        pattern = rf"(?![ \t\n\r\v\f]*\{{){free}|(?:{marker})?{calls}"
    else:
        one = calls if syntax.begin else call
        pattern = f"{free}(?:{one}{free})*" if spec.parallel else f"{free}(?:{one})?"
    return re.compile(pattern, re.DOTALL)


def texts(format: ToolFormat) -> st.SearchStrategy[str]:
    syntax = SYNTAX[format]
    parts = [
        call(format, "f", '{"n": 12}'),
        call(format, "get_wind", "{}"), call(format, "get_wind", '{"to": "é<tool_call>"}'),
        call(format, "f", '{"n": "x"}'), call(format, "g", "{}"), syntax.joiner, syntax.marker, syntax.marker[:-1], "<",
        " ", "\n", "{", "text", "é😀", ";", ",", "]", syntax.begin, syntax.end, syntax.again,
    ]  # fmt: skip
    return st.lists(st.sampled_from(parts), max_size=5).map("".join)


@FORMATS
@pytest.mark.parametrize(("required", "parallel"), list(itertools.product([True, False], repeat=2)))
def test_both_forms_hold_the_same_language(format: ToolFormat, required: bool, parallel: bool) -> None:
    of = spec(format, required=required, parallel=parallel)
    by_automaton, by_guidance, expected = automaton(of), guided(of), reference(of)

    @given(texts(format))
    @settings(derandomize=True, deadline=None)
    def check(text: str) -> None:
        is_in = expected.fullmatch(text) is not None
        assert by_automaton(text) == is_in
        assert by_guidance(text) == is_in
        if is_in:
            check_reading(of, text)

    check()
    one = call(format, "f", '{"n": 1}')
    syntax = SYNTAX[format]
    several = [f"{syntax.begin}{syntax.joiner.join([one] * n)}{syntax.end}" for n in (1, MOST, MOST + 1)]
    for text in ("", "text", "{", one, *several):
        assert by_automaton(text) == by_guidance(text) == (expected.fullmatch(text) is not None)


def check_reading(spec: ToolsSpec, text: str) -> None:
    """What the grammar lets through is read as calls, whole and with their own tool's arguments."""
    syntax = SYNTAX[spec.format]
    stream = ToolStream(syntax, {tool.name: {} for tool in spec.tools})
    _, content, calls = reply_of(stream.push(text) + stream.finish())
    assert syntax.marker not in content
    for call in calls:
        assert call.is_complete
        assert re.fullmatch(ARGUMENTS[call.name], call.arguments, re.DOTALL)
    if spec.required:
        assert calls
        assert not content
    if not spec.parallel:
        assert len(calls) <= 1
