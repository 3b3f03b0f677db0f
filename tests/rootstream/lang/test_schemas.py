"""Types as constraints, and texts as values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import re
from typing import Any, Literal, NamedTuple, TypedDict

import hypothesis.strategies as st
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given

import rootstream as rs
from rootstream.lang.schemas import json_shape, jsonable, shape_of


class Model(pydantic.BaseModel):
    name: str
    age: int


class Struct(msgspec.Struct):
    name: str
    age: int


@dataclasses.dataclass
class Data:
    name: str
    age: int


class Named(NamedTuple):
    name: str
    age: int


class Typed(TypedDict):
    name: str
    age: int


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


ADA = '{"name":"Ada","age":36}'


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (Model, Model(name="Ada", age=36)),
        (Struct, Struct("Ada", 36)),
        (Data, Data("Ada", 36)),
        (Typed, {"name": "Ada", "age": 36}),
        (dict, {"name": "Ada", "age": 36}),
        (dict[str, Any], {"name": "Ada", "age": 36}),
    ],
)
def test_objects(dtype: Any, value: Any) -> None:
    for shape in (shape_of(dtype), json_shape(dtype)):
        assert shape.json_schema is not None
        assert shape.read is not None
        assert shape.json_schema["type"] == "object"
        jsonschema.validate(json.loads(ADA), shape.json_schema)
        assert shape.read(ADA) == value


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (list, "[1, null]", [1, None]),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (int | None, "null", None),
        (Literal["a", 1], "1", 1),
        (dt.date, '"2020-02-01"', dt.date(2020, 2, 1)),
        (list[Struct], f"[{ADA}]", [Struct("Ada", 36)]),
        (Named, '["Ada", 36]', Named("Ada", 36)),
        (Tree, '{"value":1,"children":[{"value":2}]}', Tree(1, [Tree(2)])),
    ],
)
def test_other_types(dtype: Any, text: str, value: Any) -> None:
    shape = shape_of(dtype)
    assert shape.read is not None
    assert shape.read(text) == value
    if shape.json_schema is not None:
        jsonschema.validate(json.loads(text), shape.json_schema)
    else:
        assert text in shape.choices


def test_literals_and_enumerations_are_choices() -> None:
    assert shape_of(Literal["yes", "no"]).choices == ("yes", "no")
    colour, level = shape_of(Colour), shape_of(Level)
    assert colour.choices == ("red", "blue")
    assert colour.read is not None
    assert colour.read("blue") is Colour.BLUE
    assert level.read is not None
    assert level.read("2") is Level.HIGH


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_every_whole_number_is_matched_and_read(number: int) -> None:
    shape = shape_of(int)
    assert shape.regex is not None
    assert shape.read is not None
    assert re.fullmatch(shape.regex, str(number))
    assert shape.read(str(number)) == number


@given(st.from_regex(re.compile(shape_of(float).regex or "", re.ASCII), fullmatch=True))
def test_every_number_that_is_matched_is_read(text: str) -> None:
    shape = shape_of(float)
    assert shape.read is not None
    assert isinstance(shape.read(text), float)


def test_truth_values_and_texts() -> None:
    shape = shape_of(bool)
    assert shape.read is not None
    assert [shape.read(choice) for choice in shape.choices] == [True, False, True, False]
    assert shape_of(str) == (None, None, None, ())


@pytest.mark.parametrize("dtype", [int, Model, Struct, Data, list[int], Colour, bool])
def test_a_text_that_is_cut_short_says_so(dtype: Any) -> None:
    shape = shape_of(dtype)
    assert shape.read is not None
    with pytest.raises(rs.Unreadable, match="max_tokens"):
        shape.read('{"name":"A')


def test_schemas_as_dicts_and_texts() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for written in (schema, json.dumps(schema)):
        shape = json_shape(written)
        assert shape.json_schema == schema
        assert shape.read is not None
        assert shape.read('{"a": 1}') == {"a": 1}


def test_a_type_without_json_says_what_has_one() -> None:
    with pytest.raises(TypeError, match="pydantic model"):
        rs.gen("x", dtype=complex | re.Pattern)


def test_a_schemas_top_is_an_object_and_references_hold() -> None:
    schema = shape_of(Tree).json_schema
    assert schema is not None
    assert "$ref" not in schema
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"value": 1, "children": [{"value": "x"}]}, schema)


def test_values_as_json() -> None:
    values = [
        Model(name="Ada", age=1),
        Data("Ada", 1),
        Struct("Ada", 1),
        {"when": dt.date(2020, 1, 2)},
        Colour.RED,
    ]
    assert json.loads(json.dumps(jsonable(values))) == [
        {"name": "Ada", "age": 1},
        {"name": "Ada", "age": 1},
        {"name": "Ada", "age": 1},
        {"when": "2020-01-02"},
        "red",
    ]
