"""Ids that are beginnings of others: a prefix must not end everybody's requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.security.bomb import ABORT, refused, send
from tests.security.deployment import Deployment

NAMES = ("c", "chatcmpl-", "cmpl-", "gen-", "0", "a" * 15, "a" * 17, "*", "chatcmpl-*", "%", "cmpl-" + "A" * 16)
NO_NAMES = ("", None, [], 1)


def attack(deployment: Deployment) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(deployment.ask, max_tokens=200)
        for name in NAMES:  # whatever a client may have called a request of its own: there is none of that name
            for field in ("rid", "request_id"):
                assert send(deployment, ABORT, {field: name}) == (200, {"success": True})
        refused(ABORT, *({field: id} for id in NO_NAMES for field in ("rid", "request_id")), {})(deployment)
        assert other.result()["usage"]["completion_tokens"] == 200
