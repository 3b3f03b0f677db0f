"""A wish to go on in another protocol on every route."""

from __future__ import annotations

from tests.security.bomb import head, raw, statuses
from tests.security.deployment import Deployment

WISHES = (
    {"Upgrade": "websocket", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Version": "13"},
    {"Upgrade": "h2c", "HTTP2_Settings": "AAMAAABkAAQAAP__"},
)


def attack(deployment: Deployment) -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/health"):
        for wish in WISHES:
            found = statuses(raw(deployment, head(path, "GET", Connection="Upgrade", **wish), wait=0.5))
            assert 101 not in found, (path, found)
            assert all(status < 500 for status in found), (path, found)
