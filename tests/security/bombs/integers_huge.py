"""Integers of hundreds of digits in every field that takes one."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

FIELDS = ("n", "max_tokens", "min_tokens", "seed", "top_k", "priority")
NUMBERS = (b"9" * 25, b"-" + b"9" * 25, b"9" * 5000, b"1.0", b"-0.0", b"1e2")
BODIES = [b'{"prompt":"hi","' + field.encode() + b'":' + number + b"}" for field in FIELDS for number in NUMBERS]
attack = refused(TEXT, *BODIES)
