"""Schemas that hold for one value at once, and the two ways to read them. Pure data."""

from __future__ import annotations

import enum
from typing import NamedTuple

from tokenizer_svc.grammar.schema_json import Json
from tokenizer_svc.grammar.schema_keywords import ASSERTIONS
from tokenizer_svc.grammar.schema_refs import Place, below


class Reading(enum.Enum):
    """Which values a shape stands for."""

    GENERATED = enum.auto()  # what we produce: a part of what is valid
    VALID = enum.auto()  # what the standard calls valid


class Part(NamedTuple):
    """A schema that holds for the value at hand, without those of its keywords that have been dealt with."""

    pointer: str
    schema: dict[str, Json]
    done: frozenset[str] = frozenset()

    def get(self, keyword: str) -> Json:
        """The keyword's value; None where there is none to be dealt with."""
        return None if keyword in self.done else self.schema.get(keyword)

    def has(self, keyword: str) -> bool:
        return keyword in self.schema and keyword not in self.done

    def has_any(self, keywords: frozenset[str]) -> bool:
        return not (self.schema.keys() - self.done).isdisjoint(keywords)

    @property
    def asserts(self) -> bool:
        """Whether anything is left that a value could fail."""
        return self.has_any(ASSERTIONS)

    def without(self, *keywords: str) -> Part:
        return self._replace(done=self.done.union(keywords))

    def number(self, keyword: str) -> int | None:
        """The value of a keyword that counts."""
        value = self.get(keyword)
        return None if value is None else int(value)  # type: ignore[arg-type]  # a count, as schema_keywords.py checked

    def below(self, *tokens: str | int) -> Place:
        """A subschema: the value of a keyword, or something in it."""
        value: Json = self.schema
        for token in tokens:
            value = value[token]  # type: ignore[index, call-overload]
        return Place(below(self.pointer, *tokens), value)
