"""Whole servers as they grow: latency by replicas of the edge, the worker's gap by streams, memory of each process.

Uses `rootstream serve` of this tree. The edge is measured with a tiny model, so that the path is not hidden behind the
computation; the worker and memory with the packaged one.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.memory import pss_bytes
from benchmarks.peers.ours import ours
from benchmarks.peers.server import Precision, Running, running
from rootstream.bench.figures import Figures, summarize
from rootstream.bench.load import send
from rootstream.bench.workloads import Completion, Workload
from rootstream.client import Client
from tests.toy import make_toy_model

REPLICAS = (1, 2, 4)
STREAMS = (1, 8, 32, 64)
_START_S = 300.0
_MODULES = ("gpu_worker", "scheduler_svc", "detokenizer_svc", "tokenizer_svc", "rootstream")


def path(requests: int) -> dict[str, Any]:
    """Latency of short answers of a tiny model, 16 at once, by how many front doors and detokenizers there are."""
    found: dict[int, Any] = {}
    with tempfile.TemporaryDirectory(prefix="rs-toy-") as folder:
        model = make_toy_model(Path(folder) / "toy")
        for replicas in REPLICAS:
            options = ["--tokenizers", str(replicas), "--detokenizers", str(replicas), "--kv-memory", "16MiB"]
            with _serving(str(model), "--dtype", "float32", *options) as server:
                one = asyncio.run(_sent(server.url, _short(requests // 4, 1)))
                many = asyncio.run(_sent(server.url, _short(requests, 16)))
                found[replicas] = {
                    "alone": _latencies(one),
                    "16 at once": _latencies(many),
                    "memory_mib": processes_mib(server.pid),
                }
    return {"replicas": found}


def worker(tokens: int) -> dict[str, Any]:
    """The worker's gap between steps by streams, and what every process takes after that."""
    found: dict[int, Any] = {}
    with _serving() as server:
        idle = processes_mib(server.pid)
        for streams in STREAMS:
            load = Workload("streams", [Completion(_words(n, 64), tokens) for n in range(streams)], streams)
            asyncio.run(_sent(server.url, load._replace(requests=load.requests[:1])))
            before = _counted(server.url)
            figures = asyncio.run(_sent(server.url, load))
            asyncio.run(asyncio.sleep(2.5))  # for the pulse that brings the last numbers
            after = _counted(server.url)
            steps, gap, busy = (after[name] - before[name] for name in ("steps", "gap", "busy"))
            found[streams] = {
                "gap_us": round(1e6 * gap / steps, 1),
                "step_ms": round(1e3 * busy / steps, 2),
                "tokens_per_s": round(figures.tokens_per_s, 1),
            }
        return {"streams": found, "memory_mib": {"idle": idle, "after": processes_mib(server.pid)}}


def processes_mib(pid: int) -> dict[str, float]:
    """PSS of each process below ``pid``, by what it is; several of one kind together."""
    found: dict[str, float] = {}
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            kind = kind_of(process.cmdline())
            found[kind] = round(found.get(kind, 0.0) + pss_bytes(process.pid) / 2**20, 1)
    return found


def kind_of(command: Sequence[str]) -> str:
    """What a command line runs: one of our modules, the embedded server, or a child of one of them."""
    for module in _MODULES:
        if module in command:
            return "launcher" if module == "rootstream" else module
    return "valkey" if command and "valkey" in command[0] else "children"


@contextlib.contextmanager
def _serving(*options: str) -> Generator[Running]:
    with running(ours("growth", "", Precision.BF16, *options), _START_S) as server:
        yield server


def _words(seed: int, count: int) -> str:
    words = ("river", "stone", "light", "garden", "winter", "letter", "window", "music")
    return f"{seed}:" + "".join(f" {words[(seed + i * (seed + 3)) % len(words)]}" for i in range(count))


def _short(requests: int, concurrency: int) -> Workload:
    return Workload("short", [Completion(_words(n, 12), 8) for n in range(requests)], concurrency)


async def _sent(url: str, load: Workload) -> Figures:
    async with Client(url) as client:
        model = await client.first_model()
        await send(client, model, load._replace(requests=load.requests[:4]))
        return summarize(await send(client, model, load))


def _latencies(figures: Figures) -> Mapping[str, float]:
    names = ("requests_per_s", "ttft_p50", "ttft_p99", "per_token", "failed")
    return {name: round(float(getattr(figures, name)), 3) for name in names}


def _counted(url: str) -> dict[str, float]:
    """Totals of the worker's metrics."""

    async def text() -> str:
        async with Client(url) as client:
            return await client.get_text("/metrics")

    found = asyncio.run(text())
    return {
        "steps": total(found, "rootstream_worker_steps_total"),
        "gap": total(found, "rootstream_worker_gap_seconds_total"),
        "busy": total(found, "rootstream_worker_step_seconds_sum"),
    }


def total(metrics: str, name: str) -> float:
    """Sum over labels of one metric in Prometheus' text format."""
    lines = [line for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
