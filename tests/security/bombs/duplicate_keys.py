"""The same field twice: two readers may see two different requests."""

from __future__ import annotations

from tests.security.bomb import TEXT, bounded

attack = bounded(
    TEXT,
    b'{"prompt":"a","prompt":"hi","max_tokens":2}',
    b'{"max_tokens":1000000,"max_tokens":2,"prompt":"hi"}',
    b"{" + b'"n":1,' * 100_000 + b'"prompt":"hi","max_tokens":2}',
)
