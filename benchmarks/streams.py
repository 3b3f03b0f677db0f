"""One XADD after the other: a redis-py pipeline against our own connection (shared/line.py), on a Unix socket.

    .venv/bin/python -m benchmarks.streams [--bytes 800] [--count 2000] [--rounds 5]

The ways take turns, in one process under uvloop, against an embedded server. Printed for each: the round trip
and this process's CPU time, in microseconds per XADD; the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from rootstream.embedded import EmbeddedServer
from shared.bus import Bus


class Cost(NamedTuple):
    """Microseconds per call."""

    trip: float
    cpu: float


async def cost(call: Callable[[], Awaitable[object]], count: int) -> Cost:
    await call()
    began, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        await call()
    return Cost((time.perf_counter() - began) / count * 1e6, (time.process_time() - used) / count * 1e6)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=800)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    payload = bytes(options.bytes)
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        server = EmbeddedServer(Path(directory))
        server.start()
        bus = Bus.connect(server.url, "bench")
        line = bus.line()

        async def pipeline() -> None:
            pipe = bus.client.pipeline(transaction=False)
            pipe.xadd("s", {"m": payload})
            await pipe.execute()

        async def own() -> None:
            await line.call((("XADD", "s", "*", "m", payload),))

        ways = {"redis-py pipeline": pipeline, "our own connection": own}
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, call in ways.items():
                costs[name].append(await cost(call, options.count))
        await bus.close()
        server.stop()
    for name, found in costs.items():
        trip, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"{name:20} round trip {trip:6.0f} us, CPU {cpu:6.0f} us")


if __name__ == "__main__":
    uvloop.run(main())
