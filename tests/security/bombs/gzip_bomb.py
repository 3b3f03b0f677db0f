"""A compressed body of ten kilobytes that unfolds to gigabytes."""

from __future__ import annotations

import gzip
import zlib

from tests.security.bomb import TEXT, send
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    once = gzip.compress(bytes(50 * 2**20), 9)
    for body, encoding in (
        (once, "gzip"),
        (gzip.compress(once, 9), "gzip"),
        (zlib.compress(bytes(50 * 2**20), 9), "deflate"),
        (b"no gzip", "gzip"),
        (gzip.compress(b'{"prompt":"hi","max_tokens":1}')[:12], "gzip"),
        (b"{}", "unknown"),
    ):
        status, answer = send(deployment, TEXT, body, Content_Encoding=encoding)
        assert status in (400, 413, 415), (encoding, status, answer)
