"""White space in JSON that is generated; what of JSON Schema is refused, where and why; limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.grammar import Dfa, Guidance, Whitespace
from tests.tokenizer_svc.grammar.schema_asking import accepting, admitted, compiled, refusal
from tests.tokenizer_svc.grammar.schema_oracle import acceptor
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.schema import json_object, schema_guidance, schema_node

AB = {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}


# --- white space -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [{"type": "object", **AB, "required": ["a", "b"]}, {"type": "object"}])
def test_white_space_by_policy(schema: Any) -> None:
    value = {"a": 1, "b": "x  y"}
    compact, spaced = json.dumps(value, separators=(",", ":")), json.dumps(value)
    pretty = [json.dumps(value, indent=2), json.dumps(value, indent=4), json.dumps(value, indent="\t")]
    texts = [compact, spaced, *pretty]

    def by(whitespace: Whitespace) -> list[str]:
        accept = accepting(schema, whitespace)
        return [text for text in texts if accept(text)]

    assert by(Whitespace.COMPACT) == [compact]
    assert by(Whitespace.SPACED) == [spaced]
    assert by(Whitespace.FLEXIBLE) == texts


@pytest.mark.parametrize("schema", [{"type": "object", **AB, "required": ["a", "b"]}, {"type": "object"}, True])
def test_white_space_is_bounded(schema: Any) -> None:
    accept = accepting(schema, Whitespace.FLEXIBLE)
    for space in ("  ", "\n\n", "\n" + " " * 40, "\r", "\t", " \n"):
        for text in (
            '{%s"a":1,"b":""}',
            '{"a":%s1,"b":""}',
            '{"a":1,%s"b":""}',
            '{"a":1,"b":""%s}',
            '%s{"a":1,"b":""}',
        ):
            assert not accept(text % space), text % space
        assert not accept('{"a":1,"b":""}' + space)


def test_any_json_object() -> None:
    accept = acceptor(json_object(Whitespace.SPACED))
    good = ["{}", '{"a": {"b": [1, "x", null, {}]}, "c": -1.5e3}']
    assert [text for text in (*good, "[]", "1", '{"a":1}', '{"a": 1,}') if accept(text)] == good


# --- refusals and limits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {}}, "not at #/not is not supported"),
        ({"properties": {"a/b": {"if": {}, "then": {}}}}, "if at #/properties/a~1b/if is not supported"),
        ({"type": "array", "items": {"contains": {}}}, "contains at #/items/contains"),
        ({"uniqueItems": True, "items": {"type": "integer"}}, "uniqueItems at #/uniqueItems"),
        ({"dependentRequired": {"a": ["b"]}}, "dependentRequired at #/dependentRequired"),
        ({"dependentSchemas": {"a": {}}}, "dependentSchemas at #/dependentSchemas"),
        ({"dependencies": {"a": ["b"]}}, "dependencies at #/dependencies"),
        ({"$dynamicRef": "#a"}, "$dynamicRef at #/$dynamicRef"),
        ({"$ref": "https://example.com/x.json"}, "$ref 'https://example.com/x.json' at # is not supported"),
        ({"$ref": "#anchor"}, "only JSON pointers"),
        ({"$ref": "#/$defs/x"}, "leads nowhere: there is no '$defs' at #"),
        ({"$ref": "#/enum/0", "enum": [1]}, "does not lead to a schema"),
        ({"items": {"$id": "x"}}, "$id at #/items/$id"),
        ({"anyOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, "unevaluatedProperties at"),
        ({"type": "string", "format": "regex"}, "format at #/format is not supported: regex"),
        ({"contentMediaType": "application/json"}, "contentMediaType at #/contentMediaType"),
        ({"contentEncoding": "base32"}, "contentEncoding at #/contentEncoding"),
        ({"patternProperties": {"a": {}, "b": {}}}, "may match the same name"),
        ({"type": "object", "minProperties": 2}, "minProperties at #/minProperties"),
        ({"type": "string", "pattern": "a(?=b)"}, "pattern at #/pattern: look-ahead is not supported"),
        ({"divisibleBy": 2}, "divisibleBy at #/divisibleBy"),
        ({"type": "date"}, "type at # must be one or several of null, boolean"),
        ({"minLength": -1}, "minLength at # must be a whole number"),
        ({"maxItems": "3"}, "maxItems at # must be a whole number"),
        ({"minimum": 0, "exclusiveMinimum": True}, "exclusiveMinimum at # must be a number"),
        ({"properties": {"a": 3}}, "properties at # must be an object of schemas"),
        ({"anyOf": []}, "anyOf at # must be a list of at least one schema"),
        ({"required": "a"}, "required at # must be a list of strings"),
        ({"multipleOf": 0}, "multipleOf at # must be a number above 0"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{}]}, "not part of the draft"),
        (False, "no value at all"),
        ({"enum": []}, "no value at all"),
        ([], "a JSON Schema is an object, true or false"),
    ],
    ids=str,
)
def test_refused_by_keyword_and_place(schema: Any, message: str) -> None:
    assert message in refusal(schema)


def test_keywords_without_effect_are_ignored() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/", "$comment": "",
        "$anchor": "a", "$defs": {"unused": {"not": {}}}, "title": "", "description": "", "default": 3, "examples": [],
        "deprecated": True, "readOnly": True, "writeOnly": True, "if": {}, "minContains": 1, "x-order": 1,
        "nullable": True, "contentMediaType": "text/plain", "type": "integer",
    }  # fmt: skip
    assert admitted(schema, "1", "null") == ["1"]


def test_bad_json_is_refused() -> None:
    assert "is not JSON" in refusal("{")
    assert "the key 'type' twice" in refusal('{"type": "string", "type": "integer"}')
    assert "NaN is no number" in refusal('{"const": NaN}')
    assert "half of a surrogate pair" in refusal('{"const": "\\ud800"}')
    assert "nested too deep" in refusal("[" * 100_000)
    assert "is not JSON" in refusal('{"const": ' + "1" * 5000 + "}")


def test_limits() -> None:
    assert "bytes, the limit is 20" in refusal({"description": "x" * 20}, GrammarLimits(schema_bytes=20))
    assert "enum at # has 3 values, the limit is 2" in refusal({"enum": [1, 2, 3]}, GrammarLimits(enum_values=2))
    many = {"anyOf": [{"enum": [1, 2]}, {"enum": [3, 4]}]}
    assert "more than 3 values" in refusal(many, GrammarLimits(enum_values_in_all=3))
    deep: Any = {"type": "integer"}
    for _ in range(80):
        deep = {"type": "array", "items": deep}
    assert "more than 32 levels deep" in refusal({"$ref": "#/$defs/0", "$defs": chain(40)})
    assert "nested too deep" in refusal(deep)


def chain(length: int) -> dict[str, Any]:
    """Definitions, each an array of the next."""
    arrays = {str(i): {"type": "array", "items": {"$ref": f"#/$defs/{i + 1}"}} for i in range(length)}
    return {**arrays, str(length): {"type": "null"}}


def test_choices_that_multiply_are_refused_in_time() -> None:
    parts = [{"anyOf": [{"minimum": i}, {"maximum": -i}, {"minLength": i}]} for i in range(2, 20)]
    assert "taken together, are too many" in refusal({"allOf": parts})


def test_definitions_that_double_go_to_llguidance() -> None:
    doubling = {
        str(i): {"type": "array", "prefixItems": [{"$ref": f"#/$defs/{i + 1}"}] * 2, "minItems": 2} for i in range(25)
    }
    schema = {"$ref": "#/$defs/0", "$defs": {**doubling, "25": {"const": 1}}}
    assert isinstance(compiled(schema), Guidance)


def test_what_is_too_large_for_an_automaton_goes_to_llguidance() -> None:
    long = {"type": "string", "maxLength": 30_000, "minLength": 2}
    assert isinstance(compiled(long), Guidance)
    assert admitted(long, '"a"', '"ab"', f'"{"é" * 30_000}"', f'"{"é" * 30_001}"') == ['"ab"', f'"{"é" * 30_000}"']
    exponential = {"type": "string", "pattern": "a.{50}b", "maxLength": 60}
    assert isinstance(compiled(exponential), Guidance)
    assert admitted(exponential, f'"a{"x" * 50}b"', f'"a{"x" * 49}b"', f'"a{"x" * 58}b"') == [f'"a{"x" * 50}b"']
    mixed = {**long, "pattern": "^a+$", "maxLength": 20_000}
    assert isinstance(compiled(mixed), Guidance)
    assert admitted(mixed, '"aa"', '"ab"', '"a"') == ['"aa"']


def test_many_optional_properties() -> None:
    properties = {f"p{index}": {"const": index} for index in range(600)}
    some = {"properties": dict(list(properties.items())[:400])}
    assert isinstance(compiled(some), Guidance)
    assert admitted(some, "{}", '{"p3":3,"p399":399}', '{"p5":5,"p4":4}') == ["{}", '{"p3":3,"p399":399}']
    assert "more than 500 optional properties" in refusal({"properties": properties})
    assert isinstance(compiled({"properties": properties, "required": list(properties)}), Dfa)


def test_a_decoded_schema_is_as_good_as_its_text() -> None:
    schema = {"type": "number", "minimum": 0.1, "maximum": 0.5}
    accept = acceptor(Guidance(schema_guidance(schema, Whitespace.SPACED)))
    assert [text for text in ("0.1", "0.09", "0.5", "0.51") if accept(text)] == ["0.1", "0.5"]
    with pytest.raises(GrammarError, match="not JSON: object"):
        schema_node({"const": object()}, Whitespace.SPACED)
