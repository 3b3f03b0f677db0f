"""From a JSON Schema to shapes: references followed, allOf merged, enum filtered, anyOf and oneOf distributed.

What is read at once is a conjunction: all the schemas that hold for one value. Every keyword that applies one more
schema to the same value ($ref, allOf) adds it to the conjunction; every keyword that gives a choice (anyOf, oneOf) is
distributed over it. What is left are assertions side by side, which schema_merge.py makes one shape of.

A shape is read as what we generate, or as what the standard calls valid, for questions such as whether two options of a
oneOf can hold at once. The first is a part of the second: objects that list their properties have no others unless
``additionalProperties`` says so, arrays that list their first items no more, and where no type is given, keywords imply
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.schema_admits import Table, admits
from tokenizer_svc.grammar.schema_apart import Facts, apart
from tokenizer_svc.grammar.schema_json import Json
from tokenizer_svc.grammar.schema_keywords import ASSERTIONS, check, refusal
from tokenizer_svc.grammar.schema_merge import Context, merged
from tokenizer_svc.grammar.schema_parts import Part, Reading
from tokenizer_svc.grammar.schema_refs import ROOT, Document, Place, below
from tokenizer_svc.grammar.schema_shapes import ANYTHING, NEVER, Choice, Never, Reference, Shape, choice, constant

_MOST_PARTS = 60_000  # to be read, in all; what is distributed over choices can grow exponentially (0.5 s)

_Key = tuple[Reading, tuple[tuple[str, frozenset[str]], ...]]
_Parts = dict[tuple[str, frozenset[str]], Part]


class Shapes(NamedTuple):
    """What a schema has been read to."""

    root: Shape
    table: Table  # what References refer to


def read(schema: Json, limits: GrammarLimits = LIMITS) -> Shapes:
    """What we generate for a schema. Raises GrammarError for what is no schema, unsupported, or valid for nothing."""
    if not isinstance(schema, bool | dict):
        raise GrammarError("a JSON Schema is an object, true or false")
    reader = _Reader(Document(schema), limits)
    root = reader.read([Place(ROOT, schema)], Reading.GENERATED)
    if isinstance(root, Never):
        raise GrammarError("no value at all is valid under this JSON Schema")
    return Shapes(root, reader.table)


class _Reader:
    """Reads one document. Every conjunction is read once, and one that meets itself again becomes a Reference."""

    def __init__(self, document: Document, limits: GrammarLimits) -> None:
        self.table: dict[_Key, Shape] = {}
        self._limits = limits
        self._document = document
        self._levels: dict[_Key, int] = {}  # of the conjunctions that are being read
        self._checked: set[str] = set()
        self._values = 0  # of all enums
        self._parts = 0  # that have been read

    def read(self, places: Sequence[Place], reading: Reading, level: int = 0) -> Shape:
        """The shape of a value for which all of ``places`` hold, ``level`` arrays and objects deep."""
        parts: _Parts = {}
        if not all(self._expand(place, parts, ()) for place in places):
            return NEVER
        return self._shape(parts.values(), reading, level)

    def _expand(self, place: Place, into: _Parts, chain: tuple[str, ...]) -> bool:
        """Add the schema and all that it applies to the same value, in its order; False where one is ``false``."""
        pointer, schema = place
        if isinstance(schema, bool):
            return schema
        assert isinstance(schema, dict), "checked by the keyword above it"
        if pointer in chain:
            raise GrammarError(f"$ref at {below(chain[-1], '$ref')} leads back to itself")
        self._check(pointer, schema)
        chain = (*chain, pointer)
        part = Part(pointer, schema).without("$ref", "allOf")
        for keyword, value in schema.items():
            if keyword == "$ref":
                target = self._document.follow(str(value), pointer)
                if not self._expand(target, into, chain):
                    return False
            elif keyword == "allOf" and isinstance(value, list):
                if not all(self._expand(part.below("allOf", index), into, chain) for index in range(len(value))):
                    return False
            elif keyword in ASSERTIONS:
                into.setdefault((pointer, part.done), part)
        return True

    def _check(self, pointer: str, schema: dict[str, Json]) -> None:
        if pointer in self._checked:
            return
        check(schema, pointer, self._limits)
        self._checked.add(pointer)
        values = schema.get("enum")
        self._values += len(values) if isinstance(values, list) else 0
        if self._values > self._limits.enum_values_in_all:
            limit = self._limits.enum_values_in_all
            raise GrammarError(f"the enums of the schema have more than {limit} values, with the one at {pointer}")
        if self._document.is_old and "prefixItems" in schema:
            raise GrammarError(f"prefixItems at {pointer} is not part of the draft that $schema names; use items")

    def _shape(self, unread: Iterable[Part], reading: Reading, level: int) -> Shape:
        """The shape of a value for which all of the parts hold."""
        parts = [part for part in unread if part.asserts]
        if not parts:
            return ANYTHING
        key: _Key = (reading, tuple((part.pointer, part.done) for part in parts))
        if key in self.table:
            return self.table[key]
        where = parts[0].pointer
        if key in self._levels:
            if self._levels[key] == level:
                raise GrammarError(f"the schema at {where} refers to itself with nothing in between")
            return Reference(key)
        if level > self._limits.depth:
            raise GrammarError(f"the schema at {where} is nested more than {self._limits.depth} levels deep")
        self._parts += len(parts)
        if self._parts > _MOST_PARTS:
            raise GrammarError("the JSON Schema is too large: its choices, taken together, are too many")
        self._levels[key] = level
        shape = self._read(parts, reading, level)
        del self._levels[key]
        self.table[key] = shape
        return shape

    def _read(self, parts: list[Part], reading: Reading, level: int) -> Shape:
        for keyword in ("const", "enum", "anyOf", "oneOf"):
            for index, part in enumerate(parts):
                if part.has(keyword):
                    rest = [*parts[:index], part.without(keyword), *parts[index + 1 :]]
                    if keyword in ("const", "enum"):
                        return self._constants(part, keyword, rest, level)
                    return self._choice(part, keyword, rest, reading, level)

        def below(places: Sequence[Place], inner: Reading) -> Shape:
            return self.read(places, inner, level + 1)

        return merged(parts, reading, Context(below, self.table, self._limits))

    def _constants(self, part: Part, keyword: str, rest: list[Part], level: int) -> Shape:
        """The values that everything else admits too."""
        value = part.get(keyword)
        values = value if keyword == "enum" and isinstance(value, list) else [value]
        others = self._shape(rest, Reading.VALID, level)
        return choice([constant(value) for value in values if admits(others, value, self.table)])

    def _choice(self, part: Part, keyword: str, rest: list[Part], reading: Reading, level: int) -> Shape:
        places = [part.below(keyword, index) for index in range(len(part.schema[keyword]))]  # type: ignore[arg-type]
        options = [self._with(rest, place, reading, level) for place in places]
        if keyword == "anyOf":
            return choice(options)
        if reading is Reading.VALID:
            return Choice(tuple(options), exclusive=True)
        for index, option in enumerate(options):
            for other, place in enumerate(places):
                if other != index and not isinstance(option, Never):
                    valid = self._with(rest, place, Reading.VALID, level)
                    if not apart(option, valid, Facts(self.table, self._limits)):
                        raise refusal(
                            "oneOf",
                            part.pointer,
                            f"a value of option {index} may be one of option {other} too; use anyOf, "
                            "or tell them apart by a required property with a const",
                        )
        return choice(options)

    def _with(self, rest: list[Part], place: Place, reading: Reading, level: int) -> Shape:
        """The shape of a value for which the rest and one more schema hold."""
        parts: _Parts = {(part.pointer, part.done): part for part in rest}
        return self._shape(parts.values(), reading, level) if self._expand(place, parts, ()) else NEVER
