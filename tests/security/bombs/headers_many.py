"""A hundred thousand headers."""

from __future__ import annotations

from tests.security.bomb import refused_raw

attack = refused_raw(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n")
