"""Why a grammar is refused. Knows nothing of HTTP."""

from __future__ import annotations


class GrammarError(ValueError):
    """A grammar that cannot be used; the message says what is wrong, where, and what to do instead."""


def at(position: int, message: str) -> GrammarError:
    """An error at a character of a pattern, counted from 0."""
    return GrammarError(f"{message} (at character {position})")
