"""Tools with JSON Schemas: whatever their grammar lets through is calls with valid arguments."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from llguidance import LLMatcher

from shared.grammar import START, Dfa, Guidance, Tables, Whitespace, tables
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.lark import byte_vocabulary
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.grammar.tools import compile_tools
from tokenizer_svc.grammar.tools_spec import ToolSpec, ToolsSpec
from tokenizer_svc.parts import reply_of
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat, bound
from tokenizer_svc.tools.stream import ToolStream


def record(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


REGULAR: dict[str, Mapping[str, Any]] = {
    "get_time": record({}),
    "get_weather": record(
        {
            "city": {"type": "string", "maxLength": 8},
            "days": {"type": "integer"},
            "unit": {"enum": ["°C", "°F", None]},
        },
        required=["city"],
    ),
    "move": record({"to": {"type": "array", "items": {"type": "number"}, "maxItems": 3}}, required=["to"]),
}
RECURSIVE: dict[str, Mapping[str, Any]] = {
    **REGULAR,
    "walk": record(
        {"tree": {"$ref": "#/$defs/node"}},
        required=["tree"],
        **{"$defs": {"node": record({"left": {"$ref": "#/$defs/node"}, "leaf": {"type": "boolean"}})}},
    ),
}
MODES = pytest.mark.parametrize(("required", "parallel"), [(True, True), (True, False), (False, True), (False, False)])
FORMATS = pytest.mark.parametrize("format", [format for format in ToolFormat if bound(format) is format])


def spec(
    tools: Mapping[str, Mapping[str, Any]],
    format: ToolFormat = ToolFormat.HERMES,
    *,
    required: bool = True,
    parallel: bool = True,
) -> str:
    of = ToolsSpec(format, tuple(ToolSpec(name, schema) for name, schema in tools.items()), required, parallel)
    return msgspec.json.encode(of).decode()


def distances(automaton: Tables) -> list[int]:
    """Bytes from each state to the nearest accepting one."""
    sources: list[set[int]] = [set() for _ in automaton.accepting]
    for state, row in enumerate(automaton.transitions.tolist()):
        for target in set(row):
            sources[target].add(state)
    distance = [0 if accepting else -1 for accepting in automaton.accepting]
    queue = deque(state for state, known in enumerate(distance) if known == 0)
    while queue:
        state = queue.popleft()
        for source in sources[state]:
            if distance[source] < 0 and source:
                distance[source] = distance[state] + 1
                queue.append(source)
    return distance


def wander(automaton: Tables, distance: list[int], draw: random.Random, steps: int) -> str:
    """Bytes drawn from those that the automaton allows, and after ``steps`` of them the shortest way to an end."""
    state, data = START, bytearray()
    while not (automaton.accepting[state] and (len(data) >= steps or draw.random() < 0.1)):
        targets = automaton.transitions[state][automaton.classes]
        options = np.flatnonzero(targets).tolist()
        if not options:
            break
        if len(data) >= steps:
            nearest = min(distance[targets[byte]] for byte in options)
            options = [byte for byte in options if distance[targets[byte]] == nearest]
        byte = draw.choice(options)
        data.append(byte)
        state = int(targets[byte])
    return data.decode()


def check(
    text: str, format: ToolFormat, tools: Mapping[str, Mapping[str, Any]], *, required: bool, parallel: bool
) -> int:
    """How many calls there are, all of them valid."""
    stream = ToolStream(SYNTAX[format], tools)
    _, content, calls = reply_of(stream.push(text) + stream.finish())
    for call in calls:
        assert call.is_complete
        jsonschema.validate(json.loads(call.arguments), tools[call.name])
    assert SYNTAX[format].marker not in content
    if required:
        assert calls
        assert not content
    assert parallel or len(calls) <= 1
    return len(calls)


@FORMATS
@MODES
def test_whatever_an_automaton_lets_through_is_valid(format: ToolFormat, required: bool, parallel: bool) -> None:
    compiled = compile_tools(spec(REGULAR, format, required=required, parallel=parallel), Whitespace.SPACED)
    assert isinstance(compiled, Dfa)
    automaton = tables(compiled)
    distance = distances(automaton)
    draw = random.Random(7)
    found = [
        check(wander(automaton, distance, draw, 200), format, REGULAR, required=required, parallel=parallel)
        for _ in range(60)
    ]
    if required:
        assert (max(found) > 1) is parallel


@FORMATS
@MODES
def test_whatever_llguidance_lets_through_is_valid(format: ToolFormat, required: bool, parallel: bool) -> None:
    compiled = compile_tools(spec(RECURSIVE, format, required=required, parallel=parallel), Whitespace.SPACED)
    assert isinstance(compiled, Guidance)
    draw = random.Random(7)
    finished = 0
    for _ in range(10):
        matcher = LLMatcher(byte_vocabulary(), compiled.grammar)
        data = bytearray()
        while len(data) < 400 and not (matcher.is_stopped() or (matcher.is_accepting() and draw.random() < 0.2)):
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")[:256]
            closing = [byte for byte in b'"}]' if bits[byte] and len(data) > 100]
            byte = draw.choice(closing or np.flatnonzero(bits).tolist())
            data.append(byte)
            assert matcher.consume_token(byte)
        if matcher.is_accepting():
            finished += 1
            check(data.decode(), format, RECURSIVE, required=required, parallel=parallel)
    assert finished >= 5


@pytest.mark.parametrize("tools", [REGULAR, RECURSIVE])
def test_arguments_belong_to_their_function(tools: Mapping[str, Mapping[str, Any]]) -> None:
    compiled = compile_tools(spec(tools), Whitespace.SPACED)
    own = '<tool_call>\n{"name": "move", "arguments": {"to": [1, 2.5]}}\n</tool_call>'
    assert accepts(compiled, own)
    assert accepts(compiled, f"{own}\n{own}")
    assert not accepts(compiled, own.replace("move", "get_weather"))
    assert not accepts(compiled, own.replace("move", "rm"))
    assert not accepts(compiled, own.replace("[1, 2.5]", "[1, 2, 3, 4]"))
    assert not accepts(compiled, own + " and more")
    assert not accepts(compiled, "")


@pytest.mark.parametrize("tools", [REGULAR, RECURSIVE])
def test_whitespace_is_that_of_the_request(tools: Mapping[str, Mapping[str, Any]]) -> None:
    spaced = '<tool_call>\n{"name": "move", "arguments": {"to": [1, 2]}}\n</tool_call>'
    compact = '<tool_call>\n{"name":"move","arguments":{"to":[1,2]}}\n</tool_call>'
    by_policy = {policy: compile_tools(spec(tools), policy) for policy in Whitespace}
    assert [accepts(by_policy[policy], spaced) for policy in (Whitespace.SPACED, Whitespace.COMPACT)] == [True, False]
    assert [accepts(by_policy[policy], compact) for policy in (Whitespace.SPACED, Whitespace.COMPACT)] == [False, True]
    assert accepts(by_policy[Whitespace.FLEXIBLE], spaced)


def accepts(compiled: Dfa | Guidance, text: str) -> bool:
    if isinstance(compiled, Dfa):
        return tables(compiled).matches(text.encode())
    matcher = LLMatcher(byte_vocabulary(), compiled.grammar)
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


@pytest.mark.parametrize("tools", [REGULAR, RECURSIVE])
def test_required_calls_come_to_an_end(tools: Mapping[str, Mapping[str, Any]]) -> None:
    call = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    compiled = compile_tools(spec(tools), Whitespace.SPACED)
    assert accepts(compiled, "\n".join([call] * LIMITS.tool_calls))
    assert not accepts(compiled, "\n".join([call] * (LIMITS.tool_calls + 1)))


def test_calls_that_need_not_be_go_in_circles() -> None:
    one = compile_tools(spec(REGULAR, required=False, parallel=False), Whitespace.SPACED)
    many = compile_tools(spec(REGULAR, required=False, parallel=True), Whitespace.SPACED)
    assert isinstance(one, Dfa)
    assert isinstance(many, Dfa)
    assert len(many.accepting) <= len(one.accepting)


def test_what_is_too_large_for_an_automaton_goes_to_llguidance() -> None:
    small = msgspec.structs.replace(LIMITS, dfa_states=50)
    assert isinstance(compile_tools(spec(REGULAR), Whitespace.SPACED, small), Guidance)


def test_a_bad_schema_is_refused_with_its_tool() -> None:
    tools = {**REGULAR, "bad": record({"a": {"type": "strong"}})}
    with pytest.raises(GrammarError, match=r"the parameters of the tool 'bad': type at #/properties/a"):
        compile_tools(spec(tools), Whitespace.SPACED)


def test_specs_of_tools_are_compiled() -> None:
    assert isinstance(compile_spec(GrammarSpec(Kind.TOOLS, spec(REGULAR)), LIMITS), Dfa)
