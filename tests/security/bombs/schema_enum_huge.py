"""An enumeration of a hundred thousand values, or of very long ones."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(
    TEXT,
    {**SAY, "json_schema": {"enum": list(range(100_000))}},
    {**SAY, "json_schema": {"enum": ["x" * 300_000]}},
    {**SAY, "json_schema": {"type": "object", "properties": {f"p{i}": {"enum": ["a" * 50] * 900} for i in range(60)}}},
)
