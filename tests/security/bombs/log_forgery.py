"""Line breaks and terminal codes in what may be logged."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded, raw, whole
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    bounded(TEXT, {**SAY, "user": "a\n2026-01-01 root: forged entry\x1b[2J"})(deployment)
    raw(deployment, whole(b'{"prompt":"hi","max_tokens":1}', X_Request_Id="a\tforged entry", Connection="close"))
    assert "forged entry" not in deployment.server.log.read_text()
