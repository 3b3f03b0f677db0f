"""What a JSON Schema admits, form by form, and what is refused, where and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.grammar import Dfa, Guidance, Whitespace
from tests.tokenizer_svc.grammar.schema_oracle import acceptor
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.schema import NotRegular, compile_schema, json_object, schema_guidance, schema_node

AB = {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}


def compiled(schema: Any, whitespace: Whitespace = Whitespace.COMPACT) -> Dfa | Guidance:
    return compile_schema(json.dumps(schema), whitespace)


def accepting(schema: Any, whitespace: Whitespace = Whitespace.COMPACT) -> Callable[[str], bool]:
    return acceptor(compiled(schema, whitespace))


def admitted(schema: Any, *texts: str) -> list[str]:
    accept = accepting(schema)
    return [text for text in texts if accept(text)]


def refusal(schema: Any, limits: GrammarLimits = LIMITS) -> str:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    with pytest.raises(GrammarError) as caught:
        compile_schema(text, Whitespace.SPACED, limits)
    return str(caught.value)


# --- objects ---------------------------------------------------------------------------------------


def test_properties_come_in_their_order_and_no_others() -> None:
    schema = {"type": "object", **AB, "required": ["a"]}
    good = ['{"a":1}', '{"a":1,"b":"x"}']
    bad = [
        "{}",
        '{"b":"x"}',
        '{"b":"x","a":1}',
        '{"a":1,}',
        '{,"a":1}',
        '{"a":1"b":"x"}',
        '{"a":1,"c":2}',
        '{"a":1,"a":1}',
    ]
    assert admitted(schema, *good, *bad) == good


def test_any_subset_of_the_optional_properties() -> None:
    names = "abcd"
    schema = {"properties": {name: {"const": 1} for name in names}}
    accept = accepting(schema)
    subsets = [[name for bit, name in enumerate(names) if chosen >> bit & 1] for chosen in range(16)]
    assert all(accept(json.dumps(dict.fromkeys(subset, 1), separators=(",", ":"))) for subset in subsets)
    assert not accept('{"b":1,"a":1}')


def test_a_required_property_without_a_schema_is_anything() -> None:
    assert isinstance(compiled({"type": "object", **AB, "required": ["z"]}), Guidance)
    good = ['{"z":[{}]}', '{"a":1,"z":null}']
    assert admitted({"type": "object", **AB, "required": ["z"]}, *good, '{"a":1}', '{"z":1,"a":1}') == good


def test_additional_properties_come_last_and_are_not_the_listed_ones() -> None:
    schema = {"type": "object", **AB, "additionalProperties": {"type": "boolean"}}
    good = ['{"a":1,"c":true,"d":false}', '{"":true}', '{"aa":true}', "{}", '{"\\"":true}']
    bad = ['{"a":true}', '{"b":true}', '{"c":1}', '{"c":true,"a":1}', '{"\\u0061":true}']
    assert isinstance(compiled(schema), Dfa)
    assert admitted(schema, *good, *bad) == good


def test_patterns_of_names() -> None:
    schema = {
        "type": "object",
        "properties": {"x-a": {"type": "integer"}},
        "patternProperties": {"^x-": {"maximum": 9}},
        "additionalProperties": False,
    }
    good = ['{"x-a":9}', '{"x-a":1,"x-b":-5}', '{"x-":2}']
    assert admitted(schema, *good, '{"x-a":10}', '{"x-a":0.5}', '{"x-b":10}', '{"y":1}') == good


def test_names_of_properties() -> None:
    schema = {"type": "object", "propertyNames": {"maxLength": 2}, "additionalProperties": {"type": "null"}}
    assert admitted(schema, '{"ab":null}', '{"":null,"é":null}', '{"abc":null}') == [
        '{"ab":null}',
        '{"":null,"é":null}',
    ]
    assert admitted({**AB, "propertyNames": {"const": "b"}}, '{"b":""}', '{"a":1}', "{}") == ['{"b":""}', "{}"]


@pytest.mark.parametrize(("least", "most"), [(0, 1), (1, 1), (2, 2), (1, 3), (3, None), (0, 0)])
def test_numbers_of_properties(least: int, most: int | None) -> None:
    bounds = {"minProperties": least} | ({} if most is None else {"maxProperties": most})
    accept = accepting({"properties": {name: {"const": 1} for name in "abc"}, **bounds})
    for chosen in range(8):
        names = [name for bit, name in enumerate("abc") if chosen >> bit & 1]
        text = json.dumps(dict.fromkeys(names, 1), separators=(",", ":"))
        assert accept(text) == (least <= len(names) and (most is None or len(names) <= most))


def test_at_least_one_of_free_names() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2}
    good = ['{"a":1}', '{"a":1,"b":2}']
    assert admitted(schema, *good, "{}", '{"a":1,"b":2,"c":3}') == good


def test_properties_that_have_no_value_are_left_out() -> None:
    schema = {"properties": {"a": False, "b": {"enum": []}, "c": {"type": "null"}}}
    assert admitted(schema, "{}", '{"c":null}', '{"a":1}', '{"b":1}') == ["{}", '{"c":null}']
    assert "no value at all" in refusal({"type": "object", "properties": {"a": False}, "required": ["a"]})


# --- arrays ----------------------------------------------------------------------------------------


def test_lengths_of_arrays() -> None:
    schema = {"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 3}
    assert admitted(schema, "[]", "[1]", "[1,1]", "[1,1,1]", "[1,1,1,1]", "[1,]", "[,1]") == ["[1]", "[1,1]", "[1,1,1]"]
    assert admitted({"items": {"const": 1}}, "[]", "[1]", "[1,1,1,1,1]") == ["[]", "[1]", "[1,1,1,1,1]"]


def test_first_items_have_shapes_of_their_own_and_no_more_follow() -> None:
    schema = {"prefixItems": [{"const": 1}, {"const": 2}]}
    assert admitted(schema, "[]", "[1]", "[1,2]", "[1,2,3]", "[2]") == ["[]", "[1]", "[1,2]"]
    schema["items"] = {"const": 3}
    assert admitted(schema, "[1,2,3,3]", "[1,3]") == ["[1,2,3,3]"]
    old = {"items": [{"const": 1}], "additionalItems": {"const": 2}, "maxItems": 2}
    assert admitted(old, "[1,2]", "[1,2,2]", "[2]") == ["[1,2]"]


def test_an_impossible_item_ends_an_array() -> None:
    assert admitted({"type": "array", "items": False}, "[]", "[1]") == ["[]"]
    assert admitted({"prefixItems": [{"const": 1}, False]}, "[]", "[1]", "[1,1]") == ["[]", "[1]"]


# --- strings ---------------------------------------------------------------------------------------


def test_strings_have_one_spelling() -> None:
    good = ['""', '"é"', r'"\n"', r'"\""', r'"\\"', r'"\t\r\b\f"', '"/"', '"\x7f"', '"🧪"']
    bad = ['"\n"', r'"\/"', r'"\u00e9"', r'"\u0041"', r'"\x"', '"', r'"\"']
    assert admitted({"type": "string"}, *good, *bad) == good


def test_lengths_count_code_points() -> None:
    schema = {"type": "string", "minLength": 2, "maxLength": 3}
    good = ['"ab"', '"🧪🧪🧪"', r'"\n\n"', r'"\"\"\""']
    assert admitted(schema, *good, '"a"', '"abcd"', '"é"', r'"\n"', '"🧪🧪🧪🧪"') == good


def test_a_pattern_may_match_anywhere() -> None:
    assert admitted({"type": "string", "pattern": "b+"}, '"abba"', '"b"', '"aa"') == ['"abba"', '"b"']
    assert admitted({"type": "string", "pattern": "^a|b$"}, '"ax"', '"xb"', '"xa"') == ['"ax"', '"xb"']
    assert admitted({"type": "string", "pattern": '^[^a"]$'}, '"b"', '"a"', r'"\""', r'"\\"', r'"\n"') == [
        '"b"',
        r'"\\"',
        r'"\n"',
    ]


def test_control_characters_are_written_only_where_nothing_else_will_do() -> None:
    assert admitted({"type": "string", "pattern": "^[\x00-\x1f]$"}, r'"\n"', r'"\u0001"') == [r'"\n"']
    assert admitted({"type": "string", "pattern": "^\x01$"}, r'"\u0001"') == [r'"\u0001"']
    assert admitted({"const": "\x01"}, r'"\u0001"') == [r'"\u0001"']


def test_constraints_on_a_string_hold_together() -> None:
    schema = {"type": "string", "allOf": [{"pattern": "^a"}, {"pattern": "z$"}, {"maxLength": 4}, {"minLength": 3}]}
    assert isinstance(compiled(schema), Dfa)
    assert admitted(schema, '"abz"', '"axyz"', '"az"', '"abcdz"', '"abcd"') == ['"abz"', '"axyz"']
    assert "no value at all" in refusal({"type": "string", "pattern": "^a{5}$", "maxLength": 4})
    assert "no value at all" in refusal({"type": "string", "allOf": [{"pattern": "^a"}, {"pattern": "^b"}]})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date", "2000-02-29", "1900-02-29"),
        ("time", "23:59:59.5Z", "24:00:00Z"),
        ("date-time", "2024-01-31T00:00:00+02:00", "2024-01-31 00:00:00"),
        ("duration", "P1Y2M3DT4H5M6S", "P1S"),
        ("email", "joe.bloggs@example.com", "joe.@example.com"),
        ("hostname", "www.example.com", "-bad-.com"),
        ("ipv4", "192.168.0.255", "192.168.0.256"),
        ("ipv6", "2001:db8::1", "1::2::3"),
        ("uuid", "2EB8AA08-AA98-11EA-B4AA-73B441D16380", "2eb8aa08aa9811eab4aa73b441d16380"),
        ("uri", "https://example.com:80/a%20b?c=d#e", "https://example.com/a b"),
        ("json-pointer", "/a~1b/~0", "/~2"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    schema = {"type": "string", "format": name}
    assert admitted(schema, f'"{good}"', f'"{bad}"') == [f'"{good}"']


def test_unknown_formats_say_nothing() -> None:
    assert admitted({"type": "string", "format": "int32"}, '"x"') == ['"x"']
    assert admitted({"type": "integer", "format": "int64"}, "5") == ["5"]


def test_base64() -> None:
    good = ['""', '"QUJD"', '"QQ=="', '"QUI="']
    assert admitted({"type": "string", "contentEncoding": "base64"}, *good, '"QR=="', '"QUJ"', '"Q%=="') == good


# --- choices and references ------------------------------------------------------------------------


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
