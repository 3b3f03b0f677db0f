"""Bytes that are no UTF-8, overlong forms and byte order marks."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

BROKEN = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")
attack = refused(
    TEXT,
    *(b'{"prompt":"' + broken + b'"}' for broken in BROKEN),
    b"\xef\xbb\xbf" + b'{"prompt":"hi"}',
    '{"prompt":"hi"}'.encode("utf-16"),
)
