"""Patterns that are none, nest too deep, or ask for what no automaton knows."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

PATTERNS = (
    "(",
    "[",
    "a{2,1}",
    "*",
    "\\",
    "(?P<x",
    r"(a)\1",
    "(?=a)b",
    "(?<!a)b",
    "(" * 5000 + ")" * 5000,
    "[\ud800]",
    "\x00",
    "[z-a]",
)
attack = bounded(TEXT, *({**SAY, "regex": pattern} for pattern in PATTERNS))
