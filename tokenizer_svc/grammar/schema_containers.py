"""Assertions about arrays and objects side by side, made one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from tokenizer_svc.grammar import schema_texts as texts
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.regex import parse_search
from tokenizer_svc.grammar.schema_admits import Table, admits
from tokenizer_svc.grammar.schema_keywords import ARRAY, OBJECT, refusal
from tokenizer_svc.grammar.schema_parts import Part, Reading
from tokenizer_svc.grammar.schema_refs import Place, below
from tokenizer_svc.grammar.schema_shapes import (
    ANYTHING,
    NEVER,
    Constants,
    Lists,
    Member,
    Never,
    Others,
    Records,
    Shape,
    Strings,
)
from tokenizer_svc.grammar.schema_texts import Language

_MOST_STATES = 4000  # of the automaton of one pattern


class Context(NamedTuple):
    """What merging needs to know of the rest of the schema."""

    read: Callable[[Sequence[Place], Reading], Shape]  # of a value inside of the one at hand
    table: Table
    limits: GrammarLimits

    @property
    def language_limits(self) -> GrammarLimits:
        """Of a pattern that is intersected with something; beyond, it is left to llguidance."""
        return replace(self.limits, dfa_states=min(self.limits.dfa_states, _MOST_STATES))

    def pattern(self, pattern: str, pointer: str) -> Language:
        """The texts in which a pattern matches. Raises GrammarError, with the place."""
        try:
            return Language(parse_search(pattern, self.limits), self.language_limits)
        except GrammarError as error:
            raise GrammarError(f"pattern at {pointer}: {error}") from error


def lists(parts: Sequence[Part], reading: Reading, context: Context) -> Shape:
    """The shape of an array for which all the parts hold."""
    ours = [part for part in parts if part.has_any(ARRAY)]
    items = [_items(part, alone=len(ours) == 1) for part in ours]
    least = max((part.number("minItems") or 0 for part in ours), default=0)
    most = min((most for part in ours if (most := part.number("maxItems")) is not None), default=None)
    prefix: list[Shape] = []
    count = max((len(item.prefix) for item in items), default=0)
    for index in range(count if most is None else min(count, most)):
        shape = context.read([place for item in items for place in item.at(index)], reading)
        if isinstance(shape, Never):
            most = index
            break
        prefix.append(shape)
    stated = [place for item in items for place in item.rest]
    closed = reading is Reading.GENERATED and not stated and count > 0 and least <= count
    rest = NEVER if closed or (most is not None and most <= len(prefix)) else context.read(stated, reading)
    if isinstance(rest, Never):
        most = len(prefix) if most is None else min(most, len(prefix))
    unique = next((part for part in ours if part.get("uniqueItems") is True), None)
    if unique is not None and (most is None or most > 1):
        raise refusal("uniqueItems", unique.pointer, "items cannot be compared while they are written")
    return NEVER if most is not None and least > most else Lists(tuple(prefix), rest, least, most)


class _Items(NamedTuple):
    """What one schema says about items."""

    prefix: list[Place]
    rest: list[Place]  # one or none

    def at(self, index: int) -> list[Place]:
        return [self.prefix[index]] if index < len(self.prefix) else self.rest


def _items(part: Part, *, alone: bool) -> _Items:
    items = part.get("items")
    key = "items" if isinstance(items, list) else "prefixItems"
    if isinstance(items, list) and part.has("prefixItems"):
        raise refusal("items", part.pointer, "a list beside prefixItems; use items for what comes after them")
    first = part.get(key)
    prefix = [part.below(key, index) for index in range(len(first))] if isinstance(first, list) else []
    rest = "additionalItems" if isinstance(items, list) else "items"
    if not part.has(rest) and part.has("unevaluatedItems"):
        rest = _unevaluated(part, "unevaluatedItems", alone=alone)
    return _Items(prefix, [part.below(rest)] if part.has(rest) else [])


def _unevaluated(part: Part, keyword: str, *, alone: bool) -> str:
    """``keyword``, where no other schema could evaluate what it applies to: there it is like additionalProperties."""
    if not alone and part.get(keyword) is not True:
        raise refusal(keyword, part.pointer, "beside other schemas for the same value; list all that there may be")
    return keyword


def records(parts: Sequence[Part], reading: Reading, context: Context) -> Shape:
    """The shape of an object for which all the parts hold."""
    ours = [_Properties(part, context) for part in parts if part.has_any(OBJECT)]
    alone = len(ours) == 1
    required = dict.fromkeys(name for properties in ours for name in properties.required)
    names = dict.fromkeys([*(name for properties in ours for name in properties.named), *required])
    allowed = _names(ours, reading, context)
    members: list[Member] = []
    for name in names:
        places = [place for properties in ours for place in properties.of(name, alone=alone)]
        shape = context.read(places, reading) if admits(allowed.valid, name, context.table) else NEVER
        if not isinstance(shape, Never):
            members.append(Member(name, shape, name in required))
        elif name in required:
            return NEVER
    patterns = _patterns(ours, reading, context, allowed, tuple(names))
    least = max((p.part.number("minProperties") or 0 for p in ours), default=0)
    most = min((most for p in ours if (most := p.part.number("maxProperties")) is not None), default=None)
    extra = _extra(ours, reading, context, allowed, tuple(names))
    if reading is Reading.GENERATED:
        _check_least(ours, least, len(members), free=bool(patterns) or not isinstance(extra.shape, Never))
    if most is not None and max(least, len(required)) > most:
        return NEVER
    if least > len(members) and not patterns and isinstance(extra.shape, Never):
        return NEVER
    return Records(tuple(members), patterns, extra, least, most)


class _Properties:
    """What one schema says about properties."""

    def __init__(self, part: Part, context: Context) -> None:
        self.part = part
        named, required = part.get("properties"), part.get("required")
        self.named = list(named) if isinstance(named, dict) else []
        self.required = [str(name) for name in required] if isinstance(required, list) else []
        patterns = part.get("patternProperties")
        self.patterns = {
            pattern: context.pattern(pattern, below(part.pointer, "patternProperties", pattern))
            for pattern in (patterns if isinstance(patterns, dict) else ())
        }

    def of(self, name: str, *, alone: bool) -> list[Place]:
        """The schemas for a property by its name."""
        places = [self.part.below("properties", name)] if name in self.named else []
        matching = (pattern for pattern, language in self.patterns.items() if language.has(name))
        places += (self.part.below("patternProperties", pattern) for pattern in matching)
        return places or self.others(alone=alone)

    def of_pattern(self, pattern: str, *, alone: bool) -> list[Place]:
        """The schemas for properties that match a pattern and have no schema by their names."""
        if pattern in self.patterns:
            return [self.part.below("patternProperties", pattern)]
        return self.others(alone=alone)

    def others(self, *, alone: bool) -> list[Place]:
        """The schema for all other properties; none where it does not say."""
        part, keyword = self.part, "additionalProperties"
        if not part.has(keyword) and part.has("unevaluatedProperties"):
            keyword = _unevaluated(part, "unevaluatedProperties", alone=alone)
        return [part.below(keyword)] if part.has(keyword) else []


class _Names(NamedTuple):
    """What names may be like."""

    valid: Shape
    generated: Strings | Constants | Never


def _names(ours: Sequence[_Properties], reading: Reading, context: Context) -> _Names:
    stating = [properties.part for properties in ours if properties.part.has("propertyNames")]
    if not stating:
        return _Names(ANYTHING, Strings())
    places = [part.below("propertyNames") for part in stating]
    valid = context.read(places, Reading.VALID)
    names = context.read([*places, Place(f"{places[0].pointer}/type", {"type": "string"})], reading)
    match names:
        case Strings() | Never():
            return _Names(valid, names)
        case Constants(values):
            return _Names(valid, Constants(tuple(value for value in values if isinstance(value, str))))
        case _:
            raise refusal("propertyNames", stating[0].pointer, "give one pattern, one length or one enum for all names")


def _patterns(
    ours: Sequence[_Properties], reading: Reading, context: Context, allowed: _Names, listed: tuple[str, ...]
) -> tuple[Others, ...]:
    """The properties that are known by a pattern; no two patterns may match the same name."""
    found = {pattern: (language, p) for p in ours for pattern, language in p.patterns.items()}
    others: list[Others] = []
    for pattern, (language, properties) in found.items():
        for second, (other, _) in found.items():
            both = texts.Constraints(0, None, (language, other))
            if second != pattern and texts.is_possible(both, context.limits):
                pointer = properties.part.pointer
                raise refusal("patternProperties", pointer, f"{pattern!r} and {second!r} may match the same name")
        names = _restricted(allowed.generated, language, listed)
        places = [place for p in ours for place in p.of_pattern(pattern, alone=len(ours) == 1)]
        shape = context.read(places, reading)
        if reading is Reading.VALID or not (isinstance(shape, Never) or isinstance(names, Never)):
            others.append(Others(names, shape))
    return tuple(others)


def _restricted(names: Strings | Constants | Never, language: Language | None, listed: tuple[str, ...]) -> Shape:
    """The names that are in the language too and are not listed."""
    if isinstance(names, Constants):
        fitting = (value for value in names.values if value not in listed)
        kept = tuple(v for v in fitting if language is None or language.has(str(v)))
        return Constants(kept) if kept else NEVER
    if isinstance(names, Never):
        return NEVER
    languages = names.languages if language is None else (*names.languages, language)
    return Strings(names.least, names.most, languages, names.formats, listed)


def _extra(
    ours: Sequence[_Properties], reading: Reading, context: Context, allowed: _Names, listed: tuple[str, ...]
) -> Others:
    """All other properties."""
    places = [place for properties in ours for place in properties.others(alone=len(ours) == 1)]
    lists_some = any(p.named or p.patterns for p in ours)
    has_patterns = any(p.patterns for p in ours)
    if reading is Reading.GENERATED and ((lists_some and not places) or has_patterns):
        return Others(Strings(), NEVER)
    names = _restricted(allowed.generated, None, listed)
    shape = NEVER if isinstance(names, Never) else context.read(places, reading)
    return Others(names, shape)


def _check_least(ours: Sequence[_Properties], least: int, members: int, *, free: bool) -> None:
    """Nothing keeps the names of other properties apart, so only one of them counts."""
    if free and least > members + 1:
        where = next(p.part.pointer for p in ours if p.part.has("minProperties"))
        raise refusal("minProperties", where, "more than one property would have a name that is not listed")
