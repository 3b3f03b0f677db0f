"""A JSON Schema nested a hundred deep, and thousands, as an object and as a text."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

nested: dict[str, object] = {"type": "integer"}
for _ in range(100):
    nested = {"type": "array", "items": nested}
TEXTS = ['{"not":' * 20_000 + "{}" + "}" * 20_000, '{"items":' * 5000 + "{}" + "}" * 5000]
attack = refused(TEXT, *({**SAY, "json_schema": schema} for schema in (nested, *TEXTS)), says="json_schema")
