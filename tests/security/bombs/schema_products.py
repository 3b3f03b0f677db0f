"""Alternatives within alternatives: each is small, what they multiply to is not."""

from __future__ import annotations

from typing import Any

from tests.security.bomb import SAY, TEXT, bounded

ALL_OF = {"allOf": [{"anyOf": [{"minLength": i}, {"maxLength": 50 + i}]} for i in range(24)]}
OPTIONAL = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(200)}}
NESTED: dict[str, Any] = {"type": "integer"}
for _ in range(12):
    NESTED = {"type": "object", "properties": {"a": NESTED, "b": NESTED}}
ONE_OF = {"oneOf": [{"type": "string", "pattern": f"^(a|b)*a(a|b){{{i}}}$"} for i in range(12)]}
attack = bounded(TEXT, *({**SAY, "json_schema": schema} for schema in (ALL_OF, OPTIONAL, NESTED, ONE_OF)))
