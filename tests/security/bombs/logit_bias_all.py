"""A bias for every token of the vocabulary, all forbidden or all forced."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

attack = bounded(TEXT, *({**SAY, "logit_bias": {str(id): bias for id in range(320)}} for bias in (-100, 100, 0)))
