"""NaN, infinities and numbers that no float holds: every comparison with them is false."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

FIELDS = ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")
NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" + b"0" * 400, b'"nan"', b"1e308", b"-1e308")
BODIES = [
    b'{"prompt":"hi","max_tokens":2,"' + field.encode() + b'":' + number + b"}"
    for field in FIELDS
    for number in NUMBERS
]
attack = refused(TEXT, *BODIES)
