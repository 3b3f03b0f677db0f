"""The text of a JSON Schema as values. Knows JSON, and nothing of schemas.

Numbers with a fraction are Decimals, so that bounds are what their author wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias, cast

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits

Json: TypeAlias = "bool | int | Decimal | str | list[Json] | dict[str, Json] | None"


def parse(text: str, limits: GrammarLimits = LIMITS) -> Json:
    """The value that ``text`` spells. Raises GrammarError on bad JSON, on a key given twice, and beyond the limits."""
    size = len(text.encode(errors="replace"))
    if size > limits.schema_bytes:
        raise GrammarError(f"the JSON Schema has {size} bytes, the limit is {limits.schema_bytes}")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_float=Decimal, parse_constant=_refuse)
    except GrammarError:
        raise
    except (ValueError, ArithmeticError) as error:
        raise GrammarError(f"the JSON Schema is not JSON: {error}") from error
    except RecursionError as error:
        raise GrammarError("the JSON Schema is nested too deep") from error
    return plain(value, limits)


def plain(value: object, limits: GrammarLimits = LIMITS) -> Json:
    """A value of Python's json, or of ours, with Decimals for floats. Raises GrammarError on anything else."""
    return _plain(
        value, 2 * limits.depth + 4
    )  # a subschema is two levels of JSON: a keyword, and a name or index in it


def dumps(value: bool | int | Decimal | str | None) -> str:
    """A scalar as JSON, in the one spelling that we generate: raw UTF-8, short escapes, digits as they were given."""
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def same(left: Json, right: Json) -> bool:
    """Equality of JSON: 1 is 1.0, but true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[name]) for name, value in left.items())
    return left == right


def _plain(value: object, levels: int) -> Json:
    if levels < 0:
        raise GrammarError("the JSON Schema is nested too deep")
    if value is None or isinstance(value, bool | int | Decimal):
        return value
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise GrammarError(f"the JSON Schema has half of a surrogate pair in {value!r}")
        return value
    if isinstance(value, dict):
        items = cast("dict[Any, object]", value).items()
        return {str(_plain(name, levels)): _plain(item, levels - 1) for name, item in items}
    if isinstance(value, list | tuple):
        return [_plain(item, levels - 1) for item in cast("Sequence[object]", value)]
    raise GrammarError(f"the JSON Schema has a value that is not JSON: {type(value).__name__}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise GrammarError(f"the JSON Schema has the key {name!r} twice in one object")
        found[name] = value
    return found


def _refuse(name: str) -> None:
    raise GrammarError(f"the JSON Schema is not JSON: {name} is no number")
