"""Bytes on the port that are no HTTP: a TLS hello, Redis, an old protocol, noise."""

from __future__ import annotations

from tests.security.bomb import refused_raw

GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"*1\r\n$8\r\nFLUSHALL\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET\r\n\r\n",
    bytes(range(256)) * 40 + b"\r\n\r\n",
    b"\r\n" * 10_000 + b"x\r\n\r\n",
    b"POST /generate HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
    b"POST /generate HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
)
attack = refused_raw(*GARBAGE)
