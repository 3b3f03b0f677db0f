"""Stop strings that are too many, too long, empty, or no strings."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

STOPS = (["a"] * 1000 + ["b"], ["a" * 10_000], "", [""], ["a", ""], [None], [1.5], [-1], {"a": 1}, 5.5, "x" * 300)
attack = refused(TEXT, *({**SAY, "stop": stop} for stop in STOPS))
