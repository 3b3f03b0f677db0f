"""Calls of tools or a text of a form, in one grammar: what it lets through is one or the other, and told apart."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.grammar import Compiled, Dfa, Guidance, Rejected, Whitespace, tables
from tests.tokenizer_svc.grammar.test_compile_tools import (
    FORMATS,
    RECURSIVE,
    REGULAR,
    accepts,
    distances,
    record,
    spec,
    wander,
)
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.spec import GrammarSpec, Kind, Reasoned
from tokenizer_svc.grammar.tools_spec import EitherSpec, ToolsSpec, openings
from tokenizer_svc.parts import Part, reply_of
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat
from tokenizer_svc.tools.stream import CallsOrText, ToolStream

CITY = record({"name": {"type": "string", "maxLength": 9}, "days": {"type": "integer"}}, required=["name"])
TREE = record({"down": {"$ref": "#"}, "name": {"type": "string"}})
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'


def compiled(
    tools: Mapping[str, Mapping[str, Any]],
    text: object,
    format: ToolFormat = ToolFormat.HERMES,
    *,
    kind: Kind = Kind.JSON_SCHEMA,
    parallel: bool = True,
    whitespace: Whitespace = Whitespace.SPACED,
    after: Reasoned | None = None,
) -> Compiled:
    calls = msgspec.json.decode(spec(tools, format, parallel=parallel), type=ToolsSpec)
    either = EitherSpec(calls, kind, text if isinstance(text, str) else json.dumps(text))
    return compile_spec(GrammarSpec(Kind.EITHER, msgspec.json.encode(either).decode(), whitespace, after), LIMITS)


def usable(*args: Any, **more: Any) -> Dfa | Guidance:
    grammar = compiled(*args, **more)
    assert isinstance(grammar, Dfa | Guidance)
    return grammar


def stream(format: ToolFormat, tools: Mapping[str, Mapping[str, Any]]) -> CallsOrText:
    calls = ToolStream(SYNTAX[format], tools)
    return CallsOrText(calls, openings(format, tools))


@FORMATS
@pytest.mark.parametrize("whitespace", list(Whitespace))
def test_whatever_the_automaton_lets_through_is_one_of_both(format: ToolFormat, whitespace: Whitespace) -> None:
    grammar = usable(REGULAR, CITY, format, whitespace=whitespace)
    assert isinstance(grammar, Dfa)
    automaton = tables(grammar)
    distance = distances(automaton)
    draw = random.Random(5)
    kinds = {"calls": 0, "text": 0}
    for _ in range(80):
        text = wander(automaton, distance, draw, 80)
        reader = stream(format, REGULAR)
        _, content, calls = reply_of(reader.push(text) + reader.finish())
        kinds["calls" if calls else "text"] += 1
        if calls:
            assert not content
            for call in calls:
                jsonschema.validate(json.loads(call.arguments), REGULAR[call.name])
        else:
            assert content == text
            jsonschema.validate(json.loads(content), CITY)
    assert kinds["text"] > 5
    assert kinds["calls"] > 5 or SYNTAX[format].bare  # no such walk begins as calls do that have no mark


SCHEMAS: list[tuple[Mapping[str, Mapping[str, Any]], Any]] = [
    (REGULAR, CITY),
    (RECURSIVE, CITY),
    (REGULAR, TREE),
    (RECURSIVE, TREE),
]


@pytest.mark.parametrize(("tools", "schema"), SCHEMAS)
def test_either_and_nothing_beside_them(tools: Mapping[str, Mapping[str, Any]], schema: Any) -> None:
    grammar = usable(tools, schema)
    assert isinstance(grammar, Dfa if (tools, schema) == SCHEMAS[0] else Guidance)
    for text in (CALL, f"{CALL}\n{CALL}", '{"name": "Köln"}', '{"name": "<tool_cal"}', '{"name": "get_weath"}'):
        assert accepts(grammar, text), text
    for text in (
        "",
        "Hm.",
        f"Hm. {CALL}",
        f'{{"name": "K"}}{CALL}',
        f'{CALL}{{"name": "K"}}',
        CALL.replace("city", "town"),
    ):
        assert not accepts(grammar, text), text


def test_a_single_call_where_calls_are_not_parallel() -> None:
    grammar = usable(REGULAR, CITY, parallel=False)
    assert accepts(grammar, CALL)
    assert not accepts(grammar, f"{CALL}\n{CALL}")


FORMS: list[tuple[Kind, str, str]] = [
    (Kind.REGEX, "(yes|<b>no</b>)+", "yes<b>no</b>"),
    (Kind.CHOICE, '["yes", "<tool>"]', "<tool>"),
    (Kind.JSON_OBJECT, "", '{"any": [1, {"name": "get_weather"}]}'),
    (Kind.LARK, 'start: "yes" start?', "yesyes"),
]


@pytest.mark.parametrize("tools", [REGULAR, RECURSIVE])
@pytest.mark.parametrize(("kind", "form", "text"), FORMS)
def test_every_form(tools: Mapping[str, Mapping[str, Any]], kind: Kind, form: str, text: str) -> None:
    if kind is Kind.CHOICE and tools is RECURSIVE:
        form, text = form.replace("<tool>", "no"), "no"
    grammar = usable(tools, form, kind=kind)
    assert accepts(grammar, text)
    assert accepts(grammar, CALL)
    assert not accepts(grammar, text + CALL)


def test_after_reasoning() -> None:
    for tools in (REGULAR, RECURSIVE):
        grammar = usable(tools, CITY, after=Reasoned("</think>", "<think>"))
        for text in ('{"name": "K"}', CALL):
            assert accepts(grammar, text)
            assert accepts(grammar, f"<think>Hm, {CALL}</think>\n\n{text}")


def test_calls_without_a_mark_are_told_by_how_they_begin() -> None:
    call = '{"name": "get_weather", "parameters": {"city": "K"}}'
    grammar = usable(REGULAR, CITY, ToolFormat.LLAMA3_JSON)
    for text in (call, f"{call}; {call}", '{"name": "get_we"}', '{"name": "get_time", "days": 1}'):
        assert accepts(grammar, text)


@pytest.mark.parametrize(
    ("format", "tools", "kind", "form"),
    [
        # the form lets through what begins as a call with its arguments does
        (
            ToolFormat.LLAMA3_JSON,
            REGULAR,
            Kind.JSON_SCHEMA,
            {"type": "object", "additionalProperties": {"maxLength": 99}},
        ),
        (ToolFormat.LLAMA3_JSON, REGULAR, Kind.REGEX, ".*"),
        (ToolFormat.HERMES, REGULAR, Kind.REGEX, "[^!]+"),
        (ToolFormat.HERMES, REGULAR, Kind.LARK, "start: /(.|\\n)*/"),
        # without an automaton less is enough
        (ToolFormat.LLAMA3_JSON, REGULAR, Kind.JSON_OBJECT, ""),
        (ToolFormat.LLAMA3_JSON, RECURSIVE, Kind.JSON_SCHEMA, CITY),
        (ToolFormat.HERMES, RECURSIVE, Kind.CHOICE, '["<tool>"]'),
    ],
)
def test_a_form_that_cannot_be_told_from_calls_is_refused(
    format: ToolFormat, tools: Mapping[str, Mapping[str, Any]], kind: Kind, form: Any
) -> None:
    rejected = compiled(tools, form, format, kind=kind)
    assert isinstance(rejected, Rejected)
    assert "as a call of a tool does" in rejected.message
    assert "tool_choice" in rejected.message


def test_a_bad_tool_is_named() -> None:
    rejected = compiled({"f": record({"a": {"type": "strong"}})}, CITY)
    assert isinstance(rejected, Rejected)
    assert "the parameters of the tool 'f'" in rejected.message


@given(
    st.sampled_from(
        [CALL, f"{CALL}\n{CALL}", CALL[:30], CALL[:60], "<tool_call>", '{"name": "<tool_call>"}', f'["{CALL}"]']
    ),
    st.lists(st.integers(0, 200)),
)
def test_parts_do_not_depend_on_how_the_text_was_cut(text: str, cuts: list[int]) -> None:
    def read(pieces: list[str]) -> object:
        reader = stream(ToolFormat.HERMES, REGULAR)
        parts: list[Part] = []
        for piece in pieces:
            parts += reader.push(piece)
        return reply_of([*parts, *reader.finish()])

    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    reply = read([text[a:b] for a, b in itertools.pairwise(places)])
    assert reply == read([text])
    if not text.startswith(CALL[:60]):
        assert reply == ("", text, ())
