"""An answer longer than any memory: some servers reserve it at once."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(TEXT, *({**SAY, "max_tokens": tokens} for tokens in (257, 2**31, 2**63, 10**100, -5)), says="token")
