"""Whether no value that we generate for one shape can be valid under another: what makes oneOf safe.

Answers no where it cannot tell. Both shapes hold for one and the same value; the first is read as what we generate, the
second as what is valid.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tokenizer_svc.grammar import schema_texts as texts
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.schema_admits import Table, admits
from tokenizer_svc.grammar.schema_shapes import (
    NEVER,
    Anything,
    Choice,
    Constants,
    Lists,
    Never,
    Numbers,
    Records,
    Reference,
    Scalar,
    Shape,
    Strings,
)


class Facts(NamedTuple):
    """What the shapes at hand are part of."""

    table: Table
    limits: GrammarLimits
    unfoldings: int = 4  # of shapes that contain themselves, before we give up


def apart(one: Shape, other: Shape, facts: Facts) -> bool:
    """Whether no value generated for ``one`` is valid under ``other``."""
    match one, other:
        case (Never(), _) | (_, Never()):
            return True
        case (Reference(), _):
            found = _unfolded(one, facts)
            return found is not None and apart(found.shape, other, found.facts)
        case (_, Reference()):
            found = _unfolded(other, facts)
            return found is not None and apart(one, found.shape, found.facts)
        case (Choice(options), _):
            return all(apart(option, other, facts) for option in options)
        case (_, Choice(options)):
            return all(apart(one, option, facts) for option in options)
        case _:
            return _single_apart(one, other, facts)


def _single_apart(one: Shape, other: Shape, facts: Facts) -> bool:
    match one, other:
        case (Constants(values), _):
            return not any(_may_admit(other, value, facts.table) for value in values)
        case (_, Constants(values)):
            return not any(_may_admit(one, value, facts.table) for value in values)
        case (Anything(), _) | (_, Anything()):
            return False
        case (Numbers(), Numbers()):
            return _numbers_apart(one, other)
        case (Strings(), Strings()):
            return _strings_apart(one, other, facts.limits)
        case (Lists(), Lists()):
            return _lists_apart(one, other, facts)
        case (Records(), Records()):
            names = {member.name for shape in (one, other) for member in shape.members if member.required}
            return any(
                apart(_member(one, name, facts.table), _member(other, name, facts.table), facts) for name in names
            )
        case _:
            return True  # of different types


class _Unfolded(NamedTuple):
    shape: Shape
    facts: Facts


def _unfolded(reference: Reference, facts: Facts) -> _Unfolded | None:
    """What a reference stands for; None where we give up."""
    if not facts.unfoldings or reference.key not in facts.table:
        return None
    return _Unfolded(facts.table[reference.key], facts._replace(unfoldings=facts.unfoldings - 1))


def _strings_apart(one: Strings, other: Strings, limits: GrammarLimits) -> bool:
    languages = (*one.languages, *one.formats, *other.languages)  # what is valid may be more than our formats
    most = min((most for most in (one.most, other.most) if most is not None), default=None)
    both = texts.Constraints(max(one.least, other.least), most, languages, (*one.excluded, *other.excluded))
    return not texts.is_possible(both, limits)


def _may_admit(shape: Shape, value: Scalar, table: Table) -> bool:
    if isinstance(shape, Strings):
        shape = replace(shape, formats=())  # what is valid may be more than our formats
    return admits(shape, value, table)


def _numbers_apart(one: Numbers, other: Numbers) -> bool:
    """By their bounds alone."""
    return _is_below(one, other) or _is_below(other, one)


def _is_below(one: Numbers, other: Numbers) -> bool:
    high, low = one.high, other.low
    return (
        high is not None and low is not None and (high < low or (high == low and (one.below_high or other.above_low)))
    )


def _lists_apart(one: Lists, other: Lists, facts: Facts) -> bool:
    """By their lengths, or by an item that both must have."""
    if (one.most is not None and one.most < other.least) or (other.most is not None and other.most < one.least):
        return True
    count = min(max(one.least, other.least), max(len(one.prefix), len(other.prefix)) + 1)
    return any(apart(_item(one, index), _item(other, index), facts) for index in range(count))


def _item(shape: Lists, index: int) -> Shape:
    return shape.prefix[index] if index < len(shape.prefix) else shape.rest


def _member(shape: Records, name: str, table: Table) -> Shape:
    """The shape of the property, whether it is required or not."""
    found = next((member.shape for member in shape.members if member.name == name), None)
    if found is None:
        found = next((others.shape for others in shape.patterns if admits(others.names, name, table)), None)
    if found is None:
        found = shape.extra.shape if admits(shape.extra.names, name, table) else NEVER
    return found
