"""Calls of tools as a grammar: the frame of the model's format around arguments that obey their tool's schema.

Where calls are required the text is nothing else. Where they are not it is free until a call begins, and bound from
there on: what the model calls, and with what, is valid although it was free to call.
Calls that are required are bounded in number, at the price of as many times the states, because a small model that must
call goes on calling. Those that are not are bounded by ``parallel`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from shared.grammar import Dfa, Guidance, Whitespace
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.schema import NotRegular, schema_lark, schema_node
from tokenizer_svc.grammar.schema_size import may_fit
from tokenizer_svc.grammar.tools_lark import tools_guidance
from tokenizer_svc.grammar.tools_node import tools_node
from tokenizer_svc.grammar.tools_spec import ToolSpec, ToolsSpec

T = TypeVar("T")


def compile_tools(text: str, whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> Dfa | Guidance:
    """An automaton where all schemas are regular and it is small enough, else a grammar for llguidance.

    Raises GrammarError, naming the tool.
    """
    return compile_calls(msgspec.json.decode(text, type=ToolsSpec), whitespace, limits)


def compile_calls(spec: ToolsSpec, whitespace: Whitespace, limits: GrammarLimits) -> Dfa | Guidance:
    """:func:`compile_tools` of a decoded spec."""
    try:
        arguments = [_of(tool, schema_node, whitespace, limits) for tool in spec.tools]
    except NotRegular:
        return calls_guidance(spec, whitespace, limits)
    node = tools_node(spec, arguments, whitespace, limits.tool_calls)
    try:
        if may_fit(node, limits):
            return compile_dfa(node, limits)
    except GrammarError:  # too many states after all
        pass
    return calls_guidance(spec, whitespace, limits)


def calls_guidance(spec: ToolsSpec, whitespace: Whitespace, limits: GrammarLimits) -> Guidance:
    """The grammar for llguidance, whether an automaton would do or not. Raises GrammarError, naming the tool."""
    arguments = [_of(tool, schema_lark, whitespace, limits) for tool in spec.tools]
    return tools_guidance(spec, arguments, whitespace, limits.tool_calls)


def _of(
    tool: ToolSpec,
    read: Callable[[object, Whitespace, GrammarLimits], T],
    whitespace: Whitespace,
    limits: GrammarLimits,
) -> T:
    """What ``read`` makes of a tool's parameters."""
    try:
        return read(tool.parameters, whitespace, limits)
    except NotRegular:
        raise
    except GrammarError as error:
        raise GrammarError(f"the parameters of the tool {tool.name!r}: {error}") from error
