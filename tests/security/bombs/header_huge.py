"""One header of a megabyte."""

from __future__ import annotations

from tests.security.bomb import head, refused_raw

attack = refused_raw(head(X_Long="a" * 2**20), b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
