"""Patterns in a schema that are large together: pattern times pattern times length."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

WIDE = {"type": "string", "pattern": "^(a?){500}a{500}$", "minLength": 1, "maxLength": 4000}
BOTH = {"allOf": [{"pattern": "^(a|b){0,500}$"}, {"pattern": "(ab){3,400}"}, {"pattern": "b{20}a{20}"}]}
NAMES = {"type": "object", "patternProperties": {f"^{'x?' * 40}{i}$": {} for i in range(50)}}
attack = bounded(TEXT, *({**SAY, "json_schema": schema} for schema in (WIDE, BOTH, NAMES)))
