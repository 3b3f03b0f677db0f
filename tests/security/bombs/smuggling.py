"""Requests whose end two servers would see in two places: the rest would be somebody else's request."""

from __future__ import annotations

from tests.security.bomb import head, raw, statuses
from tests.security.deployment import Deployment

HIDDEN = b"0\r\n\r\nGET /flush_cache HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEADS = (
    head(Content_Length=str(len(HIDDEN)), Transfer_Encoding="chunked"),
    head(Transfer_Encoding="chunked, identity"),
    head(Transfer_Encoding="xchunked", Content_Length="4"),
    head(Transfer_Encoding="\x0bchunked", Content_Length="4"),
    head().replace(b"\r\n\r\n", b"\r\nTransfer-Encoding : chunked\r\n\r\n"),
    head().replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
    head().replace(b"\r\n\r\n", b"\r\nContent-Length: 4\nX: y\r\n\r\n"),
)


def attack(deployment: Deployment) -> None:
    for each in HEADS:
        answer = raw(deployment, each + HIDDEN)
        assert b'"pages"' not in answer, (each, answer)
        assert all(status < 500 for status in statuses(answer)), (each, answer)
