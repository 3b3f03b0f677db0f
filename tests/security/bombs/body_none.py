"""Bodies that are empty, no JSON, or JSON of another kind."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

BODIES = (
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"true",
    b"{",
    b'{"prompt"',
    b"{'prompt': 'hi'}",
    b"{}{}",
    b'{"prompt":"hi"}x',
)
attack = refused(TEXT, *BODIES)
