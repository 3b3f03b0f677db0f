"""Bounds that no memory holds: lists of a billion, numbers of a thousand digits."""

from __future__ import annotations

from tests.security.bomb import TEXT, bounded

SCHEMAS = (
    b'{"type":"array","items":{},"minItems":1000000000}',
    b'{"type":"string","minLength":1000000000}',
    b'{"type":"string","maxLength":1000000000}',
    b'{"type":"object","minProperties":1000000000}',
    b'{"type":"integer","minimum":-1' + b"0" * 1000 + b',"maximum":1' + b"0" * 1000 + b"}",
    b'{"type":"number","multipleOf":1e-300}',
    b'{"type":"integer","multipleOf":982451653}',
    b'{"type":"number","minimum":1e308,"maximum":1.7e308}',
    b'{"type":"integer","minimum":5,"maximum":4}',
    b'{"minItems":-1}',
    b'{"type":"array","maxItems":1e99}',
)
attack = bounded(TEXT, *(b'{"prompt":"hi","max_tokens":4,"json_schema":' + schema + b"}" for schema in SCHEMAS))
