"""Which keywords of JSON Schema we enforce, which say nothing about validity, and which we refuse by name.

Checks that a keyword's value is what the standard asks for, not what it means. Keywords that no draft of the standard
knows are annotations, as the standard says.
Sources: JSON Schema draft 2020-12 and draft-07, core and validation.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple, TypeGuard

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.schema_json import Json
from tokenizer_svc.grammar.schema_refs import ROOT, below

_MOST = 10**18  # of what is counted
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


def is_count(value: Json) -> bool:
    """A whole number from 0 up; 2.0 is one."""
    return is_number(value) and 0 <= value < _MOST and value == int(value)


def is_number(value: Json) -> TypeGuard[int | Decimal]:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_step(value: Json) -> bool:
    return is_number(value) and value > 0


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_flag(value: Json) -> bool:
    return isinstance(value, bool)


def _is_schema(value: Json) -> bool:
    return isinstance(value, bool | dict)


def _is_schemas(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_named_schemas(value: Json) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_items(value: Json) -> bool:
    return _is_schema(value) or (isinstance(value, list) and all(map(_is_schema, value)))


def _is_names(value: Json) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_types(value: Json) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(name in TYPES for name in names)


def _is_any(value: Json) -> bool:  # noqa: ARG001
    return True


def _is_list(value: Json) -> bool:
    return isinstance(value, list)


class _Rule(NamedTuple):
    holds: Callable[[Json], bool]
    wants: str  # what the value must be, for the message


_COUNT = _Rule(is_count, "a whole number from 0 up")
_NUMBER = _Rule(is_number, "a number")
_SCHEMA = _Rule(_is_schema, "a schema")
_SCHEMAS = _Rule(_is_schemas, "a list of at least one schema")
_NAMED = _Rule(_is_named_schemas, "an object of schemas")

OBJECT = frozenset(
    ("properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties")
) | {"propertyNames", "unevaluatedProperties"}
ARRAY = frozenset(
    ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems")
)
STRING = frozenset(("minLength", "maxLength", "pattern", "format"))
NUMBER = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))

_ENFORCED: dict[str, _Rule] = {
    "$ref": _Rule(_is_text, "a string"),
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "const": _Rule(_is_any, ""),
    "enum": _Rule(_is_list, "a list"),
    "type": _Rule(_is_types, f"one or several of {', '.join(TYPES)}"),
    "properties": _NAMED,
    "patternProperties": _NAMED,
    "additionalProperties": _SCHEMA,
    "unevaluatedProperties": _SCHEMA,
    "propertyNames": _SCHEMA,
    "required": _Rule(_is_names, "a list of strings"),
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
    "items": _Rule(_is_items, "a schema or a list of schemas"),
    "prefixItems": _SCHEMAS,
    "additionalItems": _SCHEMA,
    "unevaluatedItems": _SCHEMA,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "uniqueItems": _Rule(_is_flag, "true or false"),
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _Rule(_is_text, "a string"),
    "format": _Rule(_is_text, "a string"),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": _Rule(_is_step, "a number above 0"),
}
ASSERTIONS = frozenset(_ENFORCED)

_REFUSED = {
    "not": "say what is allowed instead",
    "dependentRequired": "give each case as an option of anyOf",
    "dependentSchemas": "give each case as an option of anyOf",
    "dependencies": "give each case as an option of anyOf",
    "contains": "describe all items with items",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "divisibleBy": "it is of an old draft; use multipleOf",
    "disallow": "it is of an old draft; say what is allowed",
    "extends": "it is of an old draft; use allOf",
}


def check(schema: dict[str, Json], pointer: str, limits: GrammarLimits) -> None:
    """Raises GrammarError where the schema has a keyword that we do not enforce, or a value that is none for it."""
    for keyword, value in schema.items():
        rule = _ENFORCED.get(keyword)
        if rule is not None and not rule.holds(value):
            raise GrammarError(f"{keyword} at {pointer} must be {rule.wants}")
        if keyword in _REFUSED:
            raise refusal(keyword, pointer, _REFUSED[keyword])
    if "if" in schema and ("then" in schema or "else" in schema):
        raise refusal("if", pointer, "give each case as an option of anyOf")
    if "$id" in schema and pointer != ROOT:
        raise refusal("$id", pointer, "only the root of a schema may have one; refer to #/$defs/name")
    values = schema.get("enum")
    if isinstance(values, list) and len(values) > limits.enum_values:
        raise GrammarError(f"enum at {pointer} has {len(values)} values, the limit is {limits.enum_values}")


def refusal(keyword: str, pointer: str, advice: str) -> GrammarError:
    """What cannot be enforced is refused, with the place."""
    return GrammarError(f"{keyword} at {below(pointer, keyword)} is not supported: {advice}")
