"""The compilers against whatever a client may send: each text is compiled or rejected with a reason, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import Dfa, Guidance, Rejected, Whitespace, encode
from tests.grammars import Schema
from tests.random_schemas import random_schemas
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

LIMITS = GrammarLimits(nfa_states=4000, nfa_moves=60_000, dfa_states=1500)
"""Small, so that no example takes long: what counts is that a bound is met, whatever it is."""


def compiled(kind: Kind, text: str, whitespace: Whitespace = Whitespace.COMPACT) -> None:
    result = compile_spec(GrammarSpec(kind, text, whitespace), LIMITS)
    match result:
        case Rejected(message):
            assert message
            assert len(message) < 5000
        case Dfa() | Guidance():
            assert encode(result)


PIECES = st.sampled_from(
    [
        *("a", "b", "é", "0", " ", ".", "\\d", "\\w", "\\s", "\\b", "\\x41", "\\u00e9", "\\p{L}", "\\", "\n", "\ud800"),
        *("[", "]", "[a-z]", "[^a]", "[z-a]", "(", ")", "(?:", "(?i)", "(?=", "(?<n>", "|", "^", "$"),
        *("*", "+", "?", "{", "}", "{2}", "{2,}", "{,3}", "{3,1}", "{99999}", "*?", "++", "\\1", "\\Q", "(?#"),
    ]
)
PATTERNS = st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=12)


@settings(max_examples=500)
@given(pattern=PATTERNS)
def test_any_pattern(pattern: str) -> None:
    compiled(Kind.REGEX, pattern)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10) | st.sampled_from((1e308, -0.0, 10**30, 1.5)) | PATTERNS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "b", "$ref", "type")), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
KEYWORDS = st.sampled_from(
    (
        *("type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items"),
        *("prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum"),
        *(
            "exclusiveMinimum",
            "multipleOf",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
            "if",
            "then",
            "$ref",
            "$defs",
            "nullable",
        ),
        *("minProperties", "maxProperties", "uniqueItems", "dependentRequired", "propertyNames", "contains", "title"),
    )
)
TYPES = ("string", "integer", "number", "object", "array", "boolean", "null", "any")
SENSIBLE = st.sampled_from(TYPES).map(lambda name: {"type": name})
SCHEMAS = st.recursive(
    SENSIBLE | st.dictionaries(KEYWORDS, VALUES, max_size=3) | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES),
            "properties": st.dictionaries(st.sampled_from(("a", "b", "größe")), inner, max_size=3),
            "required": st.lists(st.sampled_from(("a", "b", "c")), max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "pattern": PATTERNS,
            "enum": st.lists(VALUES, max_size=3),
            "minLength": st.integers(-1, 20),
            "maxLength": st.integers(-1, 20),
            "minimum": st.integers(-99, 99) | st.floats(allow_nan=False),
            "maximum": st.integers(-99, 99) | st.floats(allow_nan=False),
            "multipleOf": st.sampled_from((0, 1, 7, 0.1, -1)),
            "$ref": st.sampled_from(("#", "#/$defs/x", "#/properties/a", "http://x/y", "")),
            "$defs": st.dictionaries(st.just("x"), inner, max_size=1),
        },
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=250)
@given(schema=SCHEMAS | VALUES)
def test_any_schema(schema: Any) -> None:
    compiled(Kind.JSON_SCHEMA, json.dumps(schema))


@settings(max_examples=100)
@given(data=st.data())
def test_a_good_schema_with_something_changed(data: st.DataObject) -> None:
    [(_, spec)] = random_schemas(1, data.draw(st.integers(0, 40)))
    schema: Schema = json.loads(spec.text)
    place: Any = schema
    while isinstance(place, dict) and place:
        key = data.draw(st.sampled_from(sorted(place)))
        inner = place[key]
        if not isinstance(inner, dict) or data.draw(st.booleans()):
            place[key] = data.draw(VALUES)
            break
        place = inner
    compiled(Kind.JSON_SCHEMA, json.dumps(schema))


LARK = st.lists(
    st.sampled_from(
        [
            *("start", "a", ":", "|", '"x"', "/[a-z]+/", "\n", "(", ")", "*", "+", "?", "~3", "~1..9", "[", "]"),
            *("%import common.WORD", "%ignore", "%json", "{}", "lazy", "max_tokens=3", "::=", "&", "~", "<x>", '"'),
        ]
    ),
    max_size=14,
).map(" ".join)  # fmt: skip


@settings(max_examples=150)
@given(text=LARK | LARK.map(lambda rest: f"start: {rest}") | st.text(max_size=20))
def test_any_lark(text: str) -> None:
    compiled(Kind.LARK, text)


@pytest.mark.parametrize("kind", [Kind.JSON_SCHEMA, Kind.LARK, Kind.REGEX])
@pytest.mark.parametrize("opener", ["(", "[", "{", '{"items":', '{"anyOf":[', "start: (", '"', "\\"])
def test_openers_without_end(kind: Kind, opener: str) -> None:
    compiled(kind, opener * 3000)
