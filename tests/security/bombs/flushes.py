"""The cache emptied a hundred times while others are being answered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.security.bomb import send
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(deployment.ask, max_tokens=50) for _ in range(16)]
        for _ in range(100):
            assert send(deployment, "/flush_cache", b"")[0] == 200
        assert {other.result()["usage"]["completion_tokens"] for other in others} == {50}
