"""Whether a shape admits a value. Knows what the standard calls valid, nothing of how values are spelt."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tokenizer_svc.grammar import schema_texts as texts
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema_json import Json, same
from tokenizer_svc.grammar.schema_keywords import is_number
from tokenizer_svc.grammar.schema_numbers import WHOLE_DIGITS
from tokenizer_svc.grammar.schema_shapes import (
    Anything,
    Choice,
    Constants,
    Lists,
    Never,
    Numbers,
    Records,
    Reference,
    Shape,
    Strings,
)

Table = Mapping[Any, Shape]
"""What References refer to; those to shapes that are still being read are not in it."""


def admits(shape: Shape, value: Json, table: Table) -> bool:
    """Raises GrammarError where the answer depends on a shape that is still being read."""
    match shape:
        case Never():
            return False
        case Anything():
            return True
        case Constants(values):
            return any(same(value, other) for other in values)
        case Numbers():
            return is_number(value) and _admits_number(shape, value)
        case Strings(least, most, languages, formats, excluded):
            return isinstance(value, str) and texts.admits(
                texts.Constraints(least, most, (*languages, *formats), excluded), value
            )
        case Lists():
            return isinstance(value, list) and _admits_list(shape, value, table)
        case Records():
            return isinstance(value, dict) and _admits_record(shape, value, table)
        case Choice(options, exclusive):
            fitting = (admits(option, value, table) for option in options)
            return sum(fitting) == 1 if exclusive else any(fitting)
        case Reference(key):
            if key not in table:
                raise GrammarError("enum and const are not supported beside schemas that contain themselves")
            return admits(table[key], value, table)


def _admits_number(shape: Numbers, value: int | Decimal) -> bool:
    low, high, step = shape.low, shape.high, shape.step
    if low is not None and (value < low or (shape.above_low and value == low)):
        return False
    if high is not None and (value > high or (shape.below_high and value == high)):
        return False
    if step is None:
        return True
    # Numbers that we could not write anyway would make fractions of any size.
    return abs(Decimal(value).adjusted()) <= WHOLE_DIGITS and Fraction(value) % Fraction(step) == 0


def _admits_list(shape: Lists, value: list[Json], table: Table) -> bool:
    if len(value) < shape.least or (shape.most is not None and len(value) > shape.most):
        return False
    count = len(shape.prefix)
    shapes = [*shape.prefix[: len(value)], *(shape.rest for _ in value[count:])]
    return all(admits(inner, item, table) for inner, item in zip(shapes, value, strict=True))


def _admits_record(shape: Records, value: dict[str, Json], table: Table) -> bool:
    if len(value) < shape.least or (shape.most is not None and len(value) > shape.most):
        return False
    members = {member.name: member for member in shape.members}
    if any(member.required and member.name not in value for member in shape.members):
        return False
    for name, item in value.items():
        if name in members:
            inner = members[name].shape
        else:
            inner = next((p.shape for p in shape.patterns if admits(p.names, name, table)), None)
            if inner is None:
                if not admits(shape.extra.names, name, table):
                    return False
                inner = shape.extra.shape
        if not admits(inner, item, table):
            return False
    return True
