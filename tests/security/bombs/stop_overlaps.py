"""Stop strings that are prefixes of each other, long and alike: matching them must stay linear."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

STOPS = [["a" * size for size in range(1, 17)], [f"{'ab' * 120}{i}" for i in range(16)], ["\ud83d\ude00" * 100]]
attack = bounded(TEXT, *({**SAY, "max_tokens": 60, "stop": stops} for stops in STOPS))
