"""What a deployment holds at a moment: memory and descriptors of its processes, Redis, streams, pages.

Knows where to look; whether anything grows too much is slopes.py's to say.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from shared.bus import Unavailable
from tests.chaos.deployment import Deployment
from tests.chaos.leftovers import metrics
from tests.chaos.slopes import Allowance, Point

MIB = 2**20
_GAUGES = ("rootstream_kv_pages_used", "rootstream_detokenizer_tracked", "rootstream_http_sequences")


class What(NamedTuple):
    """One thing that is measured again and again. ``life`` tells a process from the one started in its place."""

    group: str  # what it is
    name: str  # whose it is
    life: int = 0


ALLOWED = {
    "memory MiB": Allowance(24.0, 0.10),
    "descriptors": Allowance(6.0),
    "threads": Allowance(3.0),
    "redis MiB": Allowance(8.0, 0.25),
    "redis keys": Allowance(10.0),
    "step log": Allowance(5000.0),  # a detokenizer that comes back holds it for two sweeps, 20 s
    "stream entries": Allowance(600.0, 0.5),
    "hash fields": Allowance(40.0, 0.5),
    "gauge": Allowance(40.0, 0.5),
}
"""Growth while watched that still counts as none: an hour is watched with the same figures as five minutes."""


class Samples:
    """All measurements so far."""

    def __init__(self, deployment: Deployment) -> None:
        self.series: dict[What, list[Point]] = {}
        self._deployment = deployment

    def keep(self, path: Path) -> None:
        """One JSON object per line: what, and its points in seconds and values."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for what, points in sorted(self.series.items()):
                out.write(msgspec.json.encode({**what._asdict(), "points": points}) + b"\n")

    async def take(self) -> None:
        """Measure everything that answers."""
        now = time.monotonic()
        self._processes(now)
        with contextlib.suppress(Unavailable):
            await self._redis(now)
        with contextlib.suppress(Exception):
            found = await metrics(self._deployment.url)
            for name in _GAUGES:
                self._note(What("gauge", name), now, found.get(name, 0.0))

    def _note(self, what: What, now: float, value: float) -> None:
        self.series.setdefault(what, []).append(Point(now, value))

    def _processes(self, now: float) -> None:
        for name, pid in [("launcher", self._deployment.launcher.pid), *self._deployment.members().items()]:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                with process.oneshot():
                    self._note(What("memory MiB", name, pid), now, process.memory_info().rss / MIB)
                    self._note(What("descriptors", name, pid), now, process.num_fds())
                    self._note(What("threads", name, pid), now, process.num_threads())

    async def _redis(self, now: float) -> None:
        bus = self._deployment.bus()
        [info, keys] = await bus.ask((b"INFO", b"memory"), (b"KEYS", f"{bus.names.prefix}:*"), patience=1.0)
        used = next(line for line in info.decode().splitlines() if line.startswith("used_memory:"))
        self._note(What("redis MiB", "used_memory"), now, int(used.partition(":")[2]) / MIB)
        self._note(What("redis keys", "all"), now, len(keys))
        kinds = await bus.ask(*((b"TYPE", key) for key in keys), patience=1.0) if keys else []
        counted = [
            (key, (b"XLEN", b"stream entries") if kind == b"stream" else (b"HLEN", b"hash fields"))
            for key, kind in zip(keys, kinds, strict=True)
            if kind in (b"stream", b"hash")
        ]
        counts = await bus.ask(*((command, key) for key, (command, _) in counted), patience=1.0) if counted else []
        for (key, (_, group)), count in zip(counted, counts, strict=True):
            name = key.decode().partition(":")[2]
            self._note(What("step log" if name.startswith("steps:") else group.decode(), name), now, count)
