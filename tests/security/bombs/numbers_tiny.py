"""The smallest numbers there are: logits divided by them are infinite."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

TINY = (5e-324, 1e-300, 1e-45)
FIELDS = ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")
attack = bounded(TEXT, *({**SAY, field: number} for field in FIELDS for number in TINY))
