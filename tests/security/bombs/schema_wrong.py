"""Schemas whose keywords have values of every wrong type."""

from __future__ import annotations

from itertools import product

from tests.security.bomb import SAY, TEXT, bounded

KEYWORDS = (
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "pattern",
    "minLength",
    "anyOf",
    "$ref",
    "additionalProperties",
)
VALUES = (None, -1, 1.5, "x", ["x", 1], {"x": 1}, True)
attack = bounded(TEXT, *({**SAY, "json_schema": {keyword: value}} for keyword, value in product(KEYWORDS, VALUES)))
