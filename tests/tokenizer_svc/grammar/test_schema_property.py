"""Random schemas of a small family and random instances: we agree with jsonschema wherever we can write an instance."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import Whitespace
from tests.tokenizer_svc.grammar.schema_oracle import acceptor, validator, walks
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema import compile_schema

_settings = settings(derandomize=True, deadline=None, max_examples=150)

names = st.sampled_from(["a", "b", "ab", "é", 'q"', ""])
texts = st.text(alphabet='ab"\\é\t🧪', max_size=5)
scalars = st.none() | st.booleans() | st.integers(-20, 20) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


class Pair(NamedTuple):
    """A schema, and instances that are likely to be valid."""

    schema: dict[str, Any]
    instances: st.SearchStrategy[Any]


def _enum(found: list[Any]) -> Pair:
    return Pair({"enum": found}, st.sampled_from(found))


@st.composite
def _whole(draw: st.DrawFn) -> Pair:
    low, width = draw(st.integers(-15, 15)), draw(st.integers(0, 12))
    return Pair({"type": "integer", "minimum": low, "maximum": low + width}, st.integers(low - 2, low + width + 2))


@st.composite
def _text(draw: st.DrawFn) -> Pair:
    least, width = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    schema: dict[str, Any] = {"type": "string", "minLength": least, "maxLength": least + width}
    if draw(st.booleans()):
        schema["pattern"] = draw(st.sampled_from(["^a", "b$", "^[ab]*$", "é", "^(ab|ba)+$", '["\\t]']))
    return Pair(schema, texts)


@st.composite
def _array(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    items, least, width = draw(inner), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    schema: dict[str, Any] = {"type": "array", "items": items.schema, "minItems": least, "maxItems": least + width}
    first = draw(st.lists(inner, max_size=2))
    if first:
        schema["prefixItems"] = [pair.schema for pair in first]
    prefix = st.tuples(*(pair.instances for pair in first)).map(list)
    return Pair(schema, st.tuples(prefix, st.lists(items.instances, max_size=3)).map(lambda parts: parts[0] + parts[1]))


@st.composite
def _object(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    members = draw(st.dictionaries(names, inner, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(members)), unique=True)) if members else []
    extra = draw(st.none() | inner)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: pair.schema for name, pair in members.items()},
        "required": required,
        "additionalProperties": extra.schema if extra else False,
    }
    others = st.dictionaries(names, extra.instances, max_size=2) if extra else st.just({})
    named = st.fixed_dictionaries(
        {name: members[name].instances for name in members if name in required},
        optional={name: members[name].instances for name in members if name not in required},
    )

    def together(parts: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
        listed, free = parts
        ordered = {name: listed[name] for name in members if name in listed}
        return {**ordered, **{name: value for name, value in free.items() if name not in members}}

    return Pair(schema, st.tuples(named, others).map(together))


@st.composite
def _union(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    options = draw(st.lists(inner, min_size=1, max_size=3))
    keyword = draw(st.sampled_from(["anyOf", "oneOf"]))
    return Pair({keyword: [pair.schema for pair in options]}, st.one_of(*(pair.instances for pair in options)))


@st.composite
def _both(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    parts = draw(st.lists(inner, min_size=2, max_size=2))
    return Pair({"allOf": [pair.schema for pair in parts]}, st.one_of(*(pair.instances for pair in parts)))


flags: st.SearchStrategy[Pair] = st.just(Pair({"type": ["boolean", "null"]}, st.booleans() | st.none()))
pairs: st.SearchStrategy[Pair] = st.recursive(
    st.lists(values, min_size=1, max_size=3).map(_enum) | _whole() | _text() | flags,
    lambda inner: _array(inner) | _object(inner) | _union(inner) | _both(inner),
    max_leaves=5,
)


@given(pair=pairs, data=st.data())
@_settings
def test_instances_are_admitted_where_jsonschema_accepts_them(pair: Pair, data: st.DataObject) -> None:
    check = validator(pair.schema)
    instances = data.draw(st.lists(pair.instances | values, min_size=1, max_size=8))
    refused = ""
    try:
        grammar = compile_schema(json.dumps(pair.schema), Whitespace.SPACED)
    except GrammarError as error:
        refused = str(error)
        grammar = None
    if grammar is None:
        valid = any(map(check.is_valid, instances))
        assert "oneOf" in refused or ("no value at all" in refused and not valid), refused
        return
    accept = acceptor(grammar)
    merged = "allOf" in json.dumps(pair.schema)  # the order of properties is that of the merged schema
    for instance in instances:
        if accept(json.dumps(instance, ensure_ascii=False)):
            assert check.is_valid(instance), instance
        elif not merged and _in_order(pair.schema, instance):
            assert not check.is_valid(instance), instance


@given(pair=pairs)
@_settings
def test_what_is_produced_is_accepted_by_jsonschema(pair: Pair) -> None:
    try:
        grammar = compile_schema(json.dumps(pair.schema), Whitespace.FLEXIBLE)
    except GrammarError:
        return
    check = validator(pair.schema)
    for text in walks(grammar, seed=3, count=5):
        assert check.is_valid(json.loads(text)), text


def _in_order(schema: dict[str, Any], instance: Any) -> bool:
    """Whether objects in the instance have their properties in an order that some part of the schema lists."""
    if isinstance(instance, list):
        return all(_in_order(schema, item) for item in instance)
    if not isinstance(instance, dict):
        return True
    orders = list(_orders(schema))
    listed = [[name for name in order if name in instance] for order in orders]
    fits = all(list(instance)[: len(names)] == names for names in listed)
    return fits and all(_in_order(schema, item) for item in instance.values())


def _orders(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield list(schema["properties"])
        for name, inner in schema.items():
            if name in ("enum", "const"):
                yield from (list(value) for value in _objects(inner))
            else:
                yield from _orders(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _orders(inner)


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _objects(inner)
