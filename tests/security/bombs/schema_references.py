"""References that go round in circles, or double at every step."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

DOUBLING = {f"d{i}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
SCHEMAS = (
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"allOf": [{"$ref": "#"}]},
    {"$ref": "#/$defs/d0", "$defs": {**DOUBLING, "d40": {"type": "integer"}}},
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"type": "object", "properties": {"next": {"$ref": "#"}}},
)
attack = bounded(TEXT, *({**SAY, "json_schema": schema} for schema in SCHEMAS))
