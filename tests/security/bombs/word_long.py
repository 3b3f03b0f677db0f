"""One word of a million letters: pair merging is quadratic in some tokenizers."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

WORDS = ("a" * 1_000_000, "ab" * 500_000, "\u00e9" * 300_000, " " * 1_000_000, "\n" * 1_000_000)
attack = refused(TEXT, *({"prompt": word} for word in WORDS), says="maximum context length")
