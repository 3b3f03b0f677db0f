"""Ids that are beginnings of others: a prefix must not end everybody's requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.security.bomb import ABORT, refused
from tests.security.deployment import Deployment

IDS = (
    "",
    "c",
    "chatcmpl-",
    "cmpl-",
    "gen-",
    "0",
    "a" * 15,
    "a" * 17,
    "*",
    "chatcmpl-*",
    "%",
    "cmpl-" + "A" * 16,
    None,
    [],
    1,
)


def attack(deployment: Deployment) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(deployment.ask, max_tokens=200)
        refused(ABORT, *({name: id} for id in IDS for name in ("rid", "request_id")), {}, {"abort_all": True})(
            deployment
        )
        assert other.result()["usage"]["completion_tokens"] == 200
