"""CPU time of the whole scheduler process per step of the worker, streams and all.

    python -m benchmarks.scheduler_process [--rows 64] [--steps 2000] [--pause-ms 8]

Starts an embedded server and a real scheduler process; this process plays the worker, with a step every
few milliseconds. Printed besides the total: what of it went into the round itself (folding the step,
making plans), as the scheduler's own histogram says; the rest is reading, writing and the pulse. How much of the
total the kernel took, by its clock ticks; and the floor: what bare_client.py takes for the same steps, right after.
Where nobody waits the scheduler reads several steps at once, as many as its rows' leases allow.
A core that something else uses between steps makes all of it slower: compare figures of one machine and load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import psutil
import uvloop

from benchmarks.scheduler import Worker, card, request
from rootstream.embedded import EmbeddedServer
from shared.bus import Bus, Reader
from shared.config import WORKER, Settings
from shared.protocol import Hello, Open, Opened, Plan, encode
from shared.registry import Role
from shared.service import Context


class PlayedWorker:
    """The worker's end of the streams."""

    def __init__(self, bus: Bus, rows: int) -> None:
        self.bus = bus
        self.card = card(rows)
        self.worker = Worker()
        self.epoch = 0
        self.steps = bus.names.steps(WORKER)

    async def hello(self) -> None:
        await self.bus.append(self.steps, Hello(1, self.card))

    async def obey(self) -> None:
        reader = Reader(self.bus, [self.bus.names.plans(WORKER)])
        while True:
            for entry in await reader.next():
                match entry.message:
                    case Open(epoch, _):
                        await self.bus.append(self.steps, Opened(epoch, 1))
                        self.epoch = epoch
                    case Plan() as plan:
                        self.worker.apply(plan)
                    case _:
                        pass

    async def step(self, took_s: float = 0.0) -> None:
        step = msgspec.structs.replace(self.worker.step(), epoch=self.epoch, forward_us=int(took_s * 1e6))
        await self.bus.append(self.steps, step)


async def pulse(bus: Bus) -> None:
    """The front door that the requests belong to lives."""
    door = Context(Role.TOKENIZER, Settings(replica="t0"), bus)
    while True:
        await door.beat()
        await asyncio.sleep(1)


async def round_seconds(bus: Bus) -> tuple[float, float]:
    """Rounds and seconds in them, as the scheduler published last."""
    found = await bus.hash(bus.names.metrics)
    text = next(value for name, value in found.items() if name.startswith(Role.SCHEDULER)).decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = "rootstream_scheduler_round_seconds"
    return float(samples[f"{name}_count"]), float(samples[f"{name}_sum"])


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of all threads, to the nanosecond where the kernel says so, else by its clock ticks."""
    try:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        times = process.cpu_times()
        return times.user + times.system


async def floor_us(bus: Bus, played: PlayedWorker, steps: int, pause_s: float) -> float:
    """CPU time per step of a client that only reads them."""
    path = bus.client.connection_pool.connection_kwargs["path"]
    command = [sys.executable, "-m", "benchmarks.bare_client", path, played.steps, str(steps)]
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told = asyncio.create_task(client.communicate())
    while not told.done():
        await played.step()
        await asyncio.sleep(pause_s)
    return float((await told)[0])


async def measure(bus: Bus, process: psutil.Process, rows: int, steps: int, pause_s: float) -> None:
    played = PlayedWorker(bus, rows)
    random = np.random.default_rng(0)
    announce = bus.transaction()
    for id in range(1, rows + 1):
        generate = request(id, random.integers(0, 50_000, 100), 6000)
        announce.put(bus.names.live, str(id), encode(generate)).append(bus.names.requests, generate)
    await announce.commit()
    await played.hello()
    tasks = [asyncio.create_task(pulse(bus)), asyncio.create_task(played.obey())]
    while len(played.worker.ready) < rows:
        await asyncio.sleep(pause_s)
        if played.epoch:
            await played.step()
    await asyncio.sleep(1.5)
    before, used, rounds_before = process.cpu_times(), cpu_seconds(process), await round_seconds(bus)
    for _ in range(steps):
        await played.step(pause_s)
        await asyncio.sleep(pause_s)
    after, total = process.cpu_times(), cpu_seconds(process) - used
    await asyncio.sleep(1.5)
    rounds = await round_seconds(bus)
    floor = await floor_us(bus, played, steps, pause_s)
    for task in tasks:
        task.cancel()
    kernel = after.system - before.system
    reads = rounds[0] - rounds_before[0]
    inside = (rounds[1] - rounds_before[1]) / max(1.0, reads)
    print(f"scheduler process, {rows} rows, a step every {pause_s * 1000:.0f} ms and more:")
    print(
        f"  CPU per step {total / steps * 1e6:.0f} us, "
        f"{steps / max(1.0, reads):.1f} steps a round of {inside * 1e6:.0f} us, "
        f"of which in the kernel {kernel / steps * 1e6:.0f} us; the floor {floor:.0f} us"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--pause-ms", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        server = EmbeddedServer(Path(directory))
        server.start()
        bus = Bus.connect(server.url, "rootstream")
        command = [sys.executable, "-m", "scheduler_svc", "--redis", server.url, "--log-level", "warning"]
        scheduler = subprocess.Popen(command, env=dict(os.environ))  # noqa: ASYNC220 - nothing else runs yet
        try:
            await measure(bus, psutil.Process(scheduler.pid), options.rows, options.steps, options.pause_ms / 1000)
        finally:
            scheduler.terminate()
            scheduler.wait()
            await bus.close()
            server.stop()


if __name__ == "__main__":
    uvloop.run(main())
