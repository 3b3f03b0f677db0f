"""Python's types as constraints on generated text, and the way back from text to values. Pure.

pydantic's models are known by their methods: pydantic itself is not imported, nor needed.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from rootstream.lang.parts import Gen

_INT = r"-?(0|[1-9][0-9]{0,17})"
_FLOAT = r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?"
_BOOLS = {"true": True, "false": False, "True": True, "False": False}


class Unreadable(ValueError):
    """What was generated is not what its type asks for."""


class Shape(NamedTuple):
    """At most one constraint, and how the text is read; a text stays a text where ``read`` is None."""

    read: Callable[[str], Any] | None = None
    regex: str | None = None
    json_schema: dict[str, Any] | None = None
    choices: tuple[str, ...] = ()


def shape_of(dtype: Any) -> Shape:
    """What ``gen(dtype=…)`` means. Raises TypeError for a type that has no JSON.

    Numbers and truth values are written as such, literals and enumerations as one of them, everything else as JSON.
    """
    try:
        return _shape_of(dtype)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _shape_of.__wrapped__(dtype)


def json_shape(schema: Any) -> Shape:
    """What ``gen(json_schema=…)`` means: a schema as a dict or its JSON, or a type. The text is JSON in any case."""
    match schema:
        case Mapping():
            return Shape(_reader("the JSON schema", json.loads), json_schema=dict(schema))
        case str():
            try:
                parsed = json.loads(schema)
            except ValueError as error:
                raise ValueError(f"json_schema is a text that is no JSON: {error}") from None
            if not isinstance(parsed, dict):
                raise TypeError("json_schema is the JSON of no object")
            return json_shape(parsed)
        case _:
            return _json_of(schema)


@functools.lru_cache(maxsize=256)
def _shape_of(dtype: Any) -> Shape:
    if dtype is str:
        return Shape()
    if dtype is int:
        return Shape(_reader("int", int), regex=_INT)
    if dtype is float:
        return Shape(_reader("float", float), regex=_FLOAT)
    if dtype is bool:
        return Shape(_reader("bool", lambda text: _BOOLS[text.strip()]), choices=tuple(_BOOLS))
    named = _named(dtype)
    if named:
        return Shape(_reader(_name(dtype), lambda text: named[text]), choices=tuple(named))
    return _json_of(dtype)


def _named(dtype: Any) -> dict[str, Any]:
    """The values of a literal or an enumeration by their text; empty for other types and where texts are not unique."""
    if get_origin(dtype) is Literal:
        values = {str(value): value for value in get_args(dtype)}
        return values if len(values) == len(get_args(dtype)) else {}
    if isinstance(dtype, type) and issubclass(dtype, enum.Enum):
        members = list(dtype)
        values = {str(member.value): member for member in members}
        return values if len(values) == len(members) and "" not in values else {}
    return {}


@functools.lru_cache(maxsize=256)
def _json_of(dtype: Any) -> Shape:
    name = _name(dtype)
    if hasattr(dtype, "model_json_schema") and hasattr(dtype, "model_validate_json"):  # pydantic
        return Shape(_reader(name, dtype.model_validate_json), json_schema=_unfolded(dtype.model_json_schema()))
    if not (isinstance(dtype, type) or get_origin(dtype) is not None or dtype is Any):
        raise TypeError(f"{dtype!r} is no type")
    try:
        schema = msgspec.json.schema(dtype)
        decoder = msgspec.json.Decoder(dtype)
    except TypeError as error:
        kinds = "a pydantic model, a msgspec Struct, a dataclass, a TypedDict, int, list[…] and the like"
        raise TypeError(f"{name} has no JSON form ({error}): use {kinds}") from None
    return Shape(_reader(name, decoder.decode), json_schema=_unfolded(schema))


def _unfolded(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with its outermost reference resolved, since some servers want an object there."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    reference = schema.get("$ref", "")
    top = definitions.get(reference.rpartition("/")[2])
    if top is None:
        return schema
    others = {name: value for name, value in definitions.items() if f'"#/$defs/{name}"' in json.dumps(definitions)}
    return {**top, "$defs": others} if others else dict(top)


def _reader(name: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    def reading(text: str) -> Any:
        try:
            return read(text)
        except (ValueError, LookupError, msgspec.MsgspecError) as error:
            shown = text if len(text) <= 80 else f"{text[:80]}…"
            raise Unreadable(
                f"{shown!r} is no {name}: {error}; a max_tokens or stop that cuts it short is the usual cause"
            ) from error

    return reading


def _name(dtype: Any) -> str:
    return dtype.__name__ if isinstance(dtype, type) and not get_args(dtype) else str(dtype)


def jsonable(value: Any) -> Any:
    """A value as JSON's own types: pydantic's models, structs, dataclasses, enumerations and dates among them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    return msgspec.to_builtins(
        value, enc_hook=lambda other: jsonable(other) if hasattr(other, "model_dump") else str(other)
    )


def constrain(shape: Shape) -> dict[str, Any]:
    """The fields of a Gen that hold its text to a shape."""
    fields = {"regex": shape.regex, "json_schema": shape.json_schema, "choices": shape.choices}
    assert fields.keys() <= set(Gen.__struct_fields__)
    return {name: value for name, value in fields.items() if value}
