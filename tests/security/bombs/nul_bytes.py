"""NUL in texts: the end of a string to whatever is written in C."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

attack = bounded(
    TEXT,
    {"prompt": "a\x00b", "max_tokens": 2},
    {**SAY, "stop": "\x00"},
    {**SAY, "cache_salt": "\x00", "user": "\x00"},
    {**SAY, "choice": ["\x00a", "b\x00"]},
    {**SAY, "regex": "\x00+"},
    b'{"prompt":"hi"}\x00',
    b"\x00",
)
