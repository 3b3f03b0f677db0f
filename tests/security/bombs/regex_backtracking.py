"""Patterns that backtracking engines never finish: here they are automata, or refused."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

PATTERNS = ("(a+)+$", "(a|aa)+b", "(.*)*x", "([a-z]+)*1", "(a*)*(a*)*(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$")
attack = bounded(TEXT, *({**SAY, "regex": pattern} for pattern in PATTERNS))
