"""Bodies under other names, or in other forms."""

from __future__ import annotations

from tests.security.bomb import TEXT, send
from tests.security.deployment import Deployment

TYPES = (
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-7",
    "a" * 2000,
)


def attack(deployment: Deployment) -> None:
    for kind in TYPES:
        status, answer = send(deployment, TEXT, b"prompt=hi", Content_Type=kind)
        assert status == 400, (kind, status, answer)
