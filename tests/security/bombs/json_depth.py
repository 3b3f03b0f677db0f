"""Arrays or objects nested a hundred thousand deep: recursive decoders run out of stack."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

N = 100_000
NESTED = [b"[" * N, b"[" * N + b"]" * N, b'{"a":' * N + b"1" + b"}" * N, b'{"prompt":' + b"[" * N + b"]" * N + b"}"]
attack = refused(TEXT, *NESTED)
