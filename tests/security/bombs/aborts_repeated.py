"""The same request ended a hundred times, and requests that never were."""

from __future__ import annotations

from tests.security.bomb import ABORT, send
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    done = deployment.ask()["id"]
    for id in (done, "cmpl-0123456789abcdef", "f" * 16, "0" * 16):
        for _ in range(25):
            status, answer = send(deployment, ABORT, {"request_id": id})
            assert (status, answer) == (200, {"success": True})
