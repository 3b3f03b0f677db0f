"""What a JSON Schema comes down to: values of one type each, and choices between them. Pure data.

References and allOf are gone: a shape says all that holds for a value. Shapes are compared by identity, and shared
wherever a schema shares its parts; those of recursive schemas have a Reference where they would contain themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tokenizer_svc.grammar.schema_json import Json
from tokenizer_svc.grammar.schema_texts import Language

Scalar = bool | int | Decimal | str | None


@dataclass(frozen=True, slots=True, eq=False)
class Never:
    """No value at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Anything:
    """Any value."""


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """One of these values."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Numbers between two bounds, multiples of ``step`` where there is one; whole numbers have the step 1."""

    low: Decimal | None = None
    high: Decimal | None = None
    above_low: bool = False  # low itself is excluded
    below_high: bool = False  # high itself is excluded
    step: Decimal | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Strings:
    """Texts of a length in code points that are in every one of some languages, and are none of some texts."""

    least: int = 0
    most: int | None = None
    languages: tuple[Language, ...] = ()
    formats: tuple[Language, ...] = ()  # languages as well, but what is valid may be more than they have
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Arrays: the first items, each with its own shape, and any others with the shape ``rest``."""

    prefix: tuple[Shape, ...]
    rest: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A property with a name of its own."""

    name: str
    shape: Shape
    required: bool


@dataclass(frozen=True, slots=True, eq=False)
class Others:
    """Properties that are known by what their names are like."""

    names: Shape  # Strings or Constants or choices of them
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Objects. Members come in this order; other properties after them.

    A name that is in the language of ``patterns[i].names`` and is no member has the shape of that pattern (at most one
    admits it); one that is in none of them, the shape of ``extra``.
    """

    members: tuple[Member, ...]
    patterns: tuple[Others, ...]
    extra: Others
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Any one of the options; ``exclusive``: a value that is in exactly one of them."""

    options: tuple[Shape, ...]
    exclusive: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The shape that a table has under this key: one that contains this reference."""

    key: Hashable


Shape = Never | Anything | Constants | Numbers | Strings | Lists | Records | Choice | Reference

NEVER = Never()
ANYTHING = Anything()
NULL = Constants((None,))
BOOLEAN = Constants((True, False))
NOTHING_ELSE = Others(Strings(), NEVER)


def constant(value: Json) -> Shape:
    """Exactly this value."""
    if isinstance(value, list):
        return Lists(tuple(constant(item) for item in value), NEVER, len(value), len(value))
    if isinstance(value, dict):
        members = tuple(Member(name, constant(item), required=True) for name, item in value.items())
        return Records(members, (), NOTHING_ELSE)
    return Constants((value,))


def choice(options: Sequence[Shape]) -> Shape:
    """Any one of the options: nested choices are flattened, constants gathered, impossible options dropped."""
    flat: list[Shape] = []
    values: dict[Hashable, Scalar] = {}
    for option in _flattened(options):
        if isinstance(option, Constants):
            for value in option.values:
                values.setdefault((isinstance(value, bool), value), value)
        elif not isinstance(option, Never) and option not in flat:
            flat.append(option)
    if values:
        flat.append(Constants(tuple(values.values())))
    if not flat:
        return NEVER
    return flat[0] if len(flat) == 1 else Choice(tuple(flat))


def _flattened(options: Sequence[Shape]) -> list[Shape]:
    found: list[Shape] = []
    for option in options:
        if isinstance(option, Choice) and not option.exclusive:
            found += _flattened(option.options)
        else:
            found.append(option)
    return found
