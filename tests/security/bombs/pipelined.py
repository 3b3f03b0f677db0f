"""Five hundred requests in one packet: answered in order, or the connection is closed."""

from __future__ import annotations

from tests.security.bomb import head, raw, statuses, whole
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    requests = head("/v1/models", "GET", Connection="keep-alive") * 500 + head("/ping", "GET", Connection="close")
    found = statuses(raw(deployment, requests))
    assert set(found) == {200}, set(found)
    bad = statuses(
        raw(deployment, whole(b"{}", Connection="keep-alive") * 200 + head("/ping", "GET", Connection="close"))
    )
    assert set(bad) <= {400, 200}, set(bad)
