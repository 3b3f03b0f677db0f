"""More messages than any conversation has, and parts of one message."""

from __future__ import annotations

from tests.security.bomb import CHAT, refused

MANY = [{"role": "user", "content": "a"}] * 100_000
PARTS = [{"type": "text", "text": "a"}] * 100_000
attack = refused(CHAT, {"messages": MANY}, {"messages": [{"role": "user", "content": PARTS}]})
