"""Paths and ids that climb out of where they belong."""

from __future__ import annotations

from tests.security.bomb import head, raw, statuses
from tests.security.deployment import Deployment

PATHS = (
    "/../../etc/passwd",
    "/v1/models/../../../etc/passwd",
    "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v1/models/toy%00",
    "/v1/models/%ff%fe",
    "/v1/models/" + "a" * 4000,
    "/static/..%5c..%5c",
    "/V1/MODELS",
    "/v1//models",
    "/%00",
    "//",
    "/.",
)


def attack(deployment: Deployment) -> None:
    for path in PATHS:
        answer = raw(deployment, head(path, "GET", Connection="close"))
        assert b"root:" not in answer
        assert all(400 <= status < 500 for status in statuses(answer)), (path, answer[:300])
