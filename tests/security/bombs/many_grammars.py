"""A hundred different grammars from one client: compilers are taken in turns, and forget."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

attack = bounded(TEXT, *({**SAY, "max_tokens": 1, "regex": f"[a-z]{{{i}}}x"} for i in range(1, 101)))
