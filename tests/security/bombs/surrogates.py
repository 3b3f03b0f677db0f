"""Half a character: a lone surrogate in a JSON escape, which no UTF-8 can hold."""

from __future__ import annotations

from tests.security.bomb import TEXT, bounded

BODIES = [
    b'{"prompt":"\\ud800","max_tokens":2}',
    b'{"prompt":"a\\udfff\\ud800b","max_tokens":2}',
    b'{"prompt":"hi","stop":"\\ud800","max_tokens":2}',
    b'{"prompt":"hi","regex":"\\udc00","max_tokens":2}',
    b'{"prompt":"hi","cache_salt":"\\ud83d","max_tokens":2}',
    b'{"prompt":"hi","\\ud800":1,"max_tokens":2}',
]
attack = bounded(TEXT, *BODIES)
