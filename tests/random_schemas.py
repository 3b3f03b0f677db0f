"""Random JSON Schemas of all the kinds that we support, seeded."""

from __future__ import annotations

import random

from tests.grammars import (
    FLAG,
    POLICIES,
    WHOLE,
    Named,
    Schema,
    array,
    formatted,
    one_of,
    record,
    spec_of,
    text,
    whole,
)

_WORDS = ("id", "name", "kind", "size", "note", "tag", "when", "a b", "größe", 'q"', "x/y", "n~1", "items", "type")
_PATTERN_CHOICES = (
    "^[a-z]{1,6}$",
    "^(on|off)$",
    "^[A-Z]{2}-[0-9]{2,4}$",
    "^a*b?$",
    "[0-9]",
    "^x",
    "é$",
    "^[^a-f]{0,5}$",
)
_FORMATS = ("date", "time", "date-time", "uuid", "email", "ipv4", "duration")


def random_schemas(count: int, seed: int) -> list[Named]:
    """Schemas of all kinds and policies, the same for the same seed. About one in eight has no automaton."""
    rng = random.Random(seed)
    return [
        (f"random {seed}.{index}", spec_of(_Random(rng).schema(), POLICIES[index % len(POLICIES)]))
        for index in range(count)
    ]


class _Random:
    """One random schema; ``defs`` are what it refers to."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._defs: dict[str, Schema] = {}
        self._recursive = rng.random() < 0.12

    def schema(self) -> Schema:
        schema = self._value(3)
        if self._recursive:
            schema = record("value", value=schema, next={"anyOf": [{"type": "null"}, {"$ref": "#"}]})
        return {**schema, "$defs": self._defs} if self._defs else schema

    def _value(self, depth: int) -> Schema:
        scalars = (self._text, self._whole, self._real, self._constants, self._simple)
        containers = (self._record, self._record, self._array, self._map, self._union, self._shared)
        inner = depth > 0 and self._rng.random() < (0.9 if depth == 3 else 0.45)
        return self._rng.choice(containers)(depth - 1) if inner else self._rng.choice(scalars)()

    def _text(self) -> Schema:
        rng = self._rng
        match rng.randrange(5):
            case 0:
                return text(pattern=rng.choice(_PATTERN_CHOICES))
            case 1:
                return formatted(rng.choice(_FORMATS))
            case 2:
                return text(pattern=rng.choice(_PATTERN_CHOICES), maxLength=rng.randrange(5, 12))
            case 3:
                least = rng.randrange(4)
                return text(minLength=least, maxLength=least + rng.randrange(12))
            case _:
                return text(maxLength=20)

    def _whole(self) -> Schema:
        rng = self._rng
        low = rng.randrange(-1000, 1000)
        schema = rng.choice((WHOLE, whole(low), whole(None, low), whole(low, low + rng.randrange(2000))))
        return (
            schema | {"multipleOf": rng.choice((2, 5, 7))} if rng.random() < 0.2 and "maximum" not in schema else schema
        )

    def _real(self) -> Schema:
        low = self._rng.randrange(-400, 400) / 8
        bounds: tuple[Schema, ...] = (
            {},
            {"minimum": low},
            {"exclusiveMaximum": low},
            {"minimum": low, "maximum": low + 2.5},
        )
        return {"type": "number", **self._rng.choice(bounds)}

    def _constants(self) -> Schema:
        values = (
            "red",
            "green",
            "blue",
            'q"uote',
            "tab\t",
            "ß",
            "",
            0,
            1,
            -5,
            2.5,
            True,
            False,
            None,
            [1, "x"],
            {"k": None},
        )
        chosen = self._rng.sample(values, self._rng.randrange(1, 6))
        return {"const": chosen[0]} if len(chosen) == 1 else one_of(*chosen)

    def _simple(self) -> Schema:
        return self._rng.choice(
            (FLAG, {"type": "null"}, {"type": ["boolean", "null"]}, {"type": ["integer", "string"], "maxLength": 5})
        )

    def _record(self, depth: int) -> Schema:
        rng = self._rng
        names = rng.sample(_WORDS, rng.randrange(1, 6))
        properties = {name: self._value(depth) for name in names}
        required = [name for name in names if rng.random() < 0.6]
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        if rng.random() < 0.7:
            schema["additionalProperties"] = False
        elif rng.random() < 0.3:
            schema |= {"additionalProperties": self._simple(), "maxProperties": len(names) + 2}
        return schema

    def _array(self, depth: int) -> Schema:
        rng = self._rng
        least = rng.randrange(3)
        schema = array(self._value(depth), minItems=least, maxItems=least + rng.randrange(4))
        if rng.random() < 0.25:
            schema |= {"prefixItems": [self._value(depth) for _ in range(rng.randrange(1, 3))]}
        return schema

    def _map(self, depth: int) -> Schema:
        most = self._rng.randrange(1, 4)
        if self._rng.random() < 0.5:
            pattern = self._rng.choice(_PATTERN_CHOICES[:3])
            return {
                "type": "object",
                "patternProperties": {pattern: self._value(depth)},
                "additionalProperties": False,
                "maxProperties": most,
            }
        return {"type": "object", "additionalProperties": self._value(depth), "maxProperties": most}

    def _union(self, depth: int) -> Schema:
        if self._rng.random() < 0.4:
            options = [
                record(kind={"const": f"k{index}"}, value=self._value(depth))
                for index in range(self._rng.randrange(2, 4))
            ]
            return {"oneOf": options}
        return {"anyOf": [self._value(depth) for _ in range(self._rng.randrange(2, 4))]}

    def _shared(self, depth: int) -> Schema:
        name = f"d{len(self._defs)}"
        self._defs[name] = {}
        self._defs[name] = self._value(depth)
        return {"$ref": f"#/$defs/{name}"}
