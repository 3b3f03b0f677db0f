"""Counted repeats within counted repeats: states multiply."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

PATTERNS = (
    "(a{1000}){1000}",
    "((a{100}){100}){100}",
    "a{1000000000}",
    "(a?){4096}(b?){4096}",
    "(a|b)*a(a|b){30}",
    "(x{0,4096}y){0,9}",
)
attack = bounded(TEXT, *({**SAY, "regex": pattern} for pattern in PATTERNS))
