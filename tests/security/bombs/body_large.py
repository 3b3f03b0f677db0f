"""Bodies at the bound and beyond it, with and without a length that says so."""

from __future__ import annotations

from tests.security.bomb import TEXT, head, raw, send, statuses
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    status, answer = send(deployment, TEXT, b'{"prompt":"' + b"a" * 10_000_000 + b'"}')
    assert status == 400, answer
    assert statuses(raw(deployment, head(Content_Length=str(11 * 2**20)))) == [413]
    assert statuses(raw(deployment, head(Content_Length=str(10**18)))) == [413]
    blocks = (b"100000\r\n" + b"a" * 2**20 + b"\r\n" for _ in range(12))
    assert statuses(raw(deployment, head(Transfer_Encoding="chunked"), *blocks)) in ([413], [])
