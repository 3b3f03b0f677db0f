"""Constants, choices, merged schemas and references in a JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.grammar import Dfa, Guidance, Whitespace
from tests.tokenizer_svc.grammar.schema_asking import admitted, compiled, refusal
from tokenizer_svc.grammar.schema import NotRegular, schema_node


def test_enum_and_const_are_written_as_they_are() -> None:
    values = [1, -2.5, "a", True, None, [1, {"k": []}], {"x": {"y": 1}}]
    texts = [json.dumps(value, separators=(",", ":")) for value in values]
    assert admitted({"enum": values}, *texts, "1.0", "2", "false", '"b"', "[]") == texts
    assert admitted({"const": {"a": [1, 2]}}, '{"a":[1,2]}', '{"a":[1]}') == ['{"a":[1,2]}']


def test_what_stands_beside_an_enum_holds_too() -> None:
    values = [1, 1.5, "a", "long", None, True, [1], {"a": 1}]
    texts = [json.dumps(value, separators=(",", ":")) for value in values]

    def left(**beside: Any) -> list[str]:
        return admitted({"enum": values, **beside}, *texts)

    assert left(type="integer") == ["1"]
    assert left(type=["number", "null"]) == ["1", "1.5", "null"]
    assert left(type="string", maxLength=2) == ['"a"']
    assert left(pattern="^l") == ["1", "1.5", '"long"', "null", "true", "[1]", '{"a":1}']
    assert left(type="object", required=["a"]) == ['{"a":1}']
    assert "no value at all" in refusal({"enum": values, "type": "array", "items": {"type": "string"}})


def test_any_of_is_any_of() -> None:
    schema = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}], "not a keyword": {}}
    assert admitted(schema, "1", '"a"', '"ab"', "null") == ["1", '"a"']
    beside = {"anyOf": [{"minimum": 5}, {"maximum": 2}], "type": "integer"}
    assert admitted(beside, "1", "3", "7") == ["1", "7"]


def test_all_of_is_merged() -> None:
    base = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    schema = {"allOf": [base, {"properties": {"b": {"type": "null"}}}, {"properties": {"a": {"minimum": 3}}}]}
    good = ['{"a":3}', '{"a":4,"b":null}']
    assert admitted(schema, *good, '{"a":2}', "{}", '{"b":null}') == good
    assert "no value at all" in refusal({"allOf": [{"type": "string"}, {"type": "integer"}]})
    assert admitted({"allOf": [{"type": "number"}, {"type": "integer"}]}, "1", "1.5") == ["1"]


@pytest.mark.parametrize(
    "options",
    [
        [{"type": "string"}, {"type": "integer"}],
        [{"const": 1}, {"const": 2}],
        [{"enum": ["a", "b"]}, {"type": "string", "pattern": "^c"}],
        [{"type": "integer", "maximum": 3}, {"type": "integer", "exclusiveMinimum": 3}],
        [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 4}],
        [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}],
        [{"properties": {"k": {"const": 1}}, "required": ["k"], "type": "object"}, {"properties": {"k": {"const": 2}}}],
        [
            {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": False},
            {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"], "additionalProperties": False},
        ],
    ],
    ids=str,
)
def test_one_of_options_that_exclude_each_other(options: list[Any]) -> None:
    compiled({"oneOf": options})


@pytest.mark.parametrize(
    "options",
    [
        [{"type": "integer"}, {"type": "number"}],
        [{"type": "string"}, {"const": "a"}],
        [{"type": "string", "format": "uri"}, {"type": "string", "format": "iri"}],
        [{"type": "string", "pattern": r"^1\.2\.3\.4$"}, {"type": "string", "format": "hostname"}],
        [{"type": "object", "properties": {"a": {"type": "null"}}}, {"type": "object", "properties": {"b": {}}}],
        [{"required": ["a"]}, {"required": ["b"]}],
        [True, {"type": "string"}],
        [{"type": "string"}, {"minLength": 2}],
    ],
    ids=str,
)
def test_one_of_options_that_may_both_hold_are_refused(options: list[Any]) -> None:
    assert refusal({"oneOf": options}).startswith("oneOf at #/oneOf is not supported: a value of option")


def test_references() -> None:
    schema = {
        "$id": "https://example.com/root.json",
        "type": "array",
        "items": {"$ref": "#/$defs/a~1b%25"},
        "maxItems": 2,
        "$defs": {"a/b%": {"$ref": "https://example.com/root.json#/$defs/c"}, "c": {"const": 1}},
    }
    assert admitted(schema, "[1,1]", "[2]") == ["[1,1]"]
    assert isinstance(compiled(schema), Dfa)


def test_what_stands_beside_a_reference_holds_too() -> None:
    schema = {"$ref": "#/$defs/a", "maximum": 5, "$defs": {"a": {"type": "integer", "minimum": 3}}}
    assert admitted(schema, "2", "3", "5", "6") == ["3", "5"]


def test_recursion_goes_to_llguidance() -> None:
    schema = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["v"]}
    assert isinstance(compiled(schema), Guidance)
    good = ['{"v":1}', '{"v":1,"next":{"v":2,"next":{"v":3}}}']
    assert admitted(schema, *good, '{"v":1,"next":{}}', '{"v":1,"next":1}') == good
    with pytest.raises(NotRegular, match="refers to itself"):
        schema_node(schema, Whitespace.SPACED)


def test_recursion_without_an_end_is_refused() -> None:
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert "could only go on for ever" in refusal(endless)
    option = {
        "anyOf": [{"const": 1}, {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 1}],
        "$defs": {"e": endless},
    }
    endless_inside = json.loads(json.dumps(option).replace('"#"', '"#/$defs/e"'))
    assert admitted(endless_inside, "1", "[", '[{"next":{') == ["1"]


def test_references_that_only_lead_to_themselves_are_refused() -> None:
    assert "leads back to itself" in refusal({"$ref": "#"})
    assert "leads back to itself" in refusal({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}})
    assert "nothing in between" in refusal({"anyOf": [{"$ref": "#"}, {"type": "string"}]})
