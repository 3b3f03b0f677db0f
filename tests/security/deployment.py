"""A toy deployment of real processes to be attacked, and the question that counts afterwards: is all as it was?"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.e2e.conftest import Server

SERVICES = ("tokenizer_svc", "scheduler_svc", "gpu_worker", "detokenizer_svc")
CONTEXT = 256
SETTINGS = (
    *("--dtype", "float32", "--kv-memory", "8MiB", "--threads", "1", "--context-length", str(CONTEXT)),
    *("--served-model-name", "toy", "--max-running", "16"),
)
_GROWTH = 200 * 2**20  # bytes that a process may have more than at the start


class Process(NamedTuple):
    """One service, as it was at the start."""

    pid: int
    memory: int


class Deployment:
    """One running ``rootstream serve`` with the toy model."""

    def __init__(self, model: Path, folder: Path, cache: Path) -> None:
        self.server = Server([str(model), *SETTINGS, "--cache-dir", str(cache)], folder / "log", folder)
        self.server.wait_ready()
        self.url = self.server.url
        self.port = self.server.port
        self._processes: dict[str, Process] = {}
        self.ask()  # what is made at the first request is there before memory is looked at
        self._processes = self._look()

    def _look(self) -> dict[str, Process]:
        found = {name: self.server.child(name) for name in SERVICES}
        return {name: Process(process.pid, process.memory_info().rss) for name, process in found.items()}

    def get(self, path: str, patience: float = 20) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=patience) as response:
            return json.load(response)

    def ask(self, text: str = "the quick brown fox", **fields: Any) -> dict[str, Any]:
        """An ordinary request, which must be served."""
        body = {"prompt": text, "max_tokens": 4, "temperature": 0, "ignore_eos": True, **fields}
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def check(self) -> None:
        """No process died, none grew without bound, and an ordinary request is served."""
        answer = self.ask()
        assert answer["usage"]["completion_tokens"] == 4, answer
        now = self._look()
        for name, before in self._processes.items():
            assert now[name].pid == before.pid, f"{name} was started anew: {self.server.log.read_text()[-3000:]}"
            grown = now[name].memory - before.memory
            assert grown < _GROWTH, f"{name} has {grown / 2**20:.0f} MiB more than at the start"

    def settle(self, patience: float = 20) -> None:
        """Wait until nothing is computed any more."""
        deadline = time.monotonic() + patience
        while (busy := self.busy()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not busy, f"{busy} requests are still under way"

    def busy(self) -> float:
        """Requests under way in the scheduler, as of the last pulse."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as response:
            lines = response.read().decode().splitlines()
        names = ("rootstream_running_requests", "rootstream_queue_requests")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))

    def stop(self) -> None:
        assert self.server.stop() == []

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.server.process.pid).children(recursive=True)
