"""Methods that a route does not take, or that nobody has heard of."""

from __future__ import annotations

from tests.security.bomb import head, raw, statuses
from tests.security.deployment import Deployment

METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "BREW", "A" * 5000)


def attack(deployment: Deployment) -> None:
    for method in METHODS:
        for path in ("/generate", "/v1/chat/completions", "*", "http://example.com/generate"):
            found = statuses(raw(deployment, head(path, method, Connection="close"), wait=0.5))
            assert all(400 <= status < 500 for status in found), (method, path, found)
