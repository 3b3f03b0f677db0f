"""What is left in a deployment when nobody asks anything any more: nothing, or something was lost.

Reads /metrics and the streams' server; knows nothing of how the load was.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp

from tests.chaos.deployment import Deployment
from tests.chaos.reading import Violation, Wrong

_PATIENCE_S = 30.0  # pulses carry metrics once a second; a sweep comes every ten, and the second one ends what it found
_EMPTY = (
    "rootstream_kv_pages_used",
    "rootstream_queue_requests",
    "rootstream_running_requests",
    "rootstream_http_sequences",
    "rootstream_detokenizer_tracked",
)


async def metrics(url: str) -> dict[str, float]:
    """Samples by name, summed over processes and labels."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as response:
        response.raise_for_status()
        text = await response.text()
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            sums[name] = sums.get(name, 0.0) + float(line.rpartition(" ")[2])
    return sums


async def leftovers(deployment: Deployment, patience: float = _PATIENCE_S) -> list[Violation]:
    """What should be nothing and still is something after a while."""
    deadline = time.monotonic() + patience
    while True:
        found = await metrics(deployment.url)
        left = {name: found[name] for name in _EMPTY if found.get(name)}
        live = await deployment.bus().hash(deployment.bus().names.live)
        if live:
            left["live records"] = len(live)
        if not left or time.monotonic() > deadline:
            return [Violation(Wrong.LEFT_OVER, f"{name}: {count:g}") for name, count in left.items()]
        await asyncio.sleep(0.5)
