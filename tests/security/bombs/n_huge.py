"""A request for a billion answers: memory is taken for each before anybody counts."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(TEXT, *({**SAY, "n": n} for n in (65, 10**9, 2**31, 2**63 - 1, 10**30, 0, -1)), says="n")
