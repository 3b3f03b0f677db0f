"""Characters that grow when they are normalised or changed in case, and towers of marks."""

from __future__ import annotations

from tests.security.bomb import TEXT, bounded

TEXTS = ("\ufdfa" * 60, "a" + "\u0301" * 150, "\u0390" * 100, "\U0001f468\u200d" * 40, "\u202e" * 80, "\u1e9e" * 90)
attack = bounded(TEXT, *({"prompt": text, "max_tokens": 2} for text in TEXTS))
