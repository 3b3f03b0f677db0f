"""Small instances of regexes and schemas, judged by re and jsonschema."""

from __future__ import annotations

import re
from typing import Any, Literal

import jsonschema
import pydantic
import pytest

from rootstream.lang.tracing.instances import allowed, matching


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d+",
        r"[A-Z][a-z]{2,5}",
        r"(yes|no)",
        r'\{"a": (\d+|null)\}',
        r"[^\n\d]+",
        r"(a)\1b",
        r"-?\d+(\.\d+)?",
        r"^[\w.]+@\w+\.com$",
        r"(?i:AB)c??",
        r"[^a0 \-_.A]",
        r"\W\S\D",
        r"(?:x|y){3}",
        "",
    ],
)
def test_regexes(pattern: str) -> None:
    text = matching(pattern)
    assert text is not None
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("pattern", [r"\p{L}+", "(", r"(?!.)x"])
def test_what_has_no_simple_match_has_none(pattern: str) -> None:
    assert matching(pattern) is None


class Leaf(pydantic.BaseModel):
    size: int = pydantic.Field(ge=3, le=9)
    share: float = pydantic.Field(gt=0, lt=1)
    kind: Literal["oak", "elm"]
    note: str | None
    code: str = pydantic.Field(pattern=r"^[A-Z]{2}\d$")


class Tree(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    leaves: list[Leaf] = pydantic.Field(min_length=2)
    left: Tree | None
    pair: tuple[int, str]
    data: dict[str, int]


def test_models_read_their_smallest_values() -> None:
    value = allowed(Tree.model_json_schema())
    tree = Tree.model_validate(value)
    assert len(tree.leaves) == 2
    assert tree.leaves[0].code == "AA0"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 4, "multipleOf": 3},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.1},
        {"type": "integer", "maximum": -2},
        {"const": {"a": 1}},
        {"enum": [3, "x"]},
        {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]},
        {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 2, "items": {"type": "string"}},
        {"type": ["null", "string"], "format": "date"},
        {"type": "string", "pattern": "b+c", "minLength": 2},
        {"type": "object", "required": ["free"]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}},
        {},
        True,
    ],
)
def test_schemas(schema: Any) -> None:
    jsonschema.validate(allowed(schema), schema, jsonschema.Draft202012Validator)


def test_a_schema_without_end_has_an_end() -> None:
    schema = {
        "$ref": "#/$defs/x",
        "$defs": {"x": {"type": "object", "required": ["x"], "properties": {"x": {"$ref": "#/$defs/x"}}}},
    }
    assert allowed(schema) is None


def test_many_ways_of_recursion_are_no_explosion() -> None:
    node = {"anyOf": [{"$ref": f"#/$defs/n{number}"} for number in range(5)]}
    fields = {str(number): node for number in range(5)}
    kinds: dict[str, Any] = {
        f"n{number}": {"type": "object", "required": list(fields), "properties": fields} for number in range(4)
    }
    kinds["n4"] = {"type": "integer"}
    assert allowed({**node, "$defs": kinds}) is not None
