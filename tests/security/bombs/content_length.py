"""Lengths that are wrong, negative, signed, twice, or no numbers."""

from __future__ import annotations

from tests.security.bomb import head, refused_raw

BODY = b'{"prompt":"hi","max_tokens":1}'
LENGTHS = ("-1", "+5", "0x10", "1e3", "abc", "", "9" * 100, "5, 6", "5", " ")
TWICE = head(Content_Length="5").replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n")
attack = refused_raw(*(head(Content_Length=length) + BODY for length in LENGTHS), TWICE + BODY)
