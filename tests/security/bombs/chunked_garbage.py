"""Chunks with sizes that are none, negative, endless, or a lie."""

from __future__ import annotations

from tests.security.bomb import head, refused_raw

HEAD = head(Transfer_Encoding="chunked")
CHUNKS = (
    b"xyz\r\n",
    b"-1\r\n\r\n",
    b"ffffffffffffffffff\r\nx",
    b"5\r\nabcdefgh\r\n0\r\n\r\n",
    b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b"2\n{}\n0\n\n",
    b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n",
)
attack = refused_raw(*(HEAD + chunk for chunk in CHUNKS))
