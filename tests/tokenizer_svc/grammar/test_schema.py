"""What the JSON Schema of an object, an array or a string admits."""

from __future__ import annotations

import json

import pytest

from shared.grammar import Dfa, Guidance
from tests.tokenizer_svc.grammar.schema_asking import accepting, admitted, compiled, refusal

AB = {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}


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
