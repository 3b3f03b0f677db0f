"""One deployment under test: the real launcher in a directory of its own, and who its children are.

Owns its start and its end, whatever happens in between. Knows nothing of faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import psutil

from rootstream.probe import all_ready
from shared.bus import Bus, Unavailable
from shared.config import Settings
from shared.registry import Pulse, State
from tests.chaos.faults import REDIS
from tests.stack import free_port
from tests.toy import make_toy_model

_NAMESPACE = Settings().namespace
_START_S = 180.0
_STOP_S = 40.0
_POLL_S = 0.02
_ASK_S = 0.5
ROLES = {"worker": 1, "scheduler": 1, "tokenizer": 2, "detokenizer": 2}
MEMBERS = tuple(sorted([f"{role}-{i}" for role, count in ROLES.items() for i in range(count)] + [REDIS]))
KV_MEMORY = "8MiB"  # less than 48 streams want: pages are evicted, and requests preempted

# Ends with the process that started it, even if that is killed: kept through exec, set by a Python in between.
_TIED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Deployment:
    """A running launcher and its children."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "log"
        self._options = options
        self._process: psutil.Popen | None = None
        self._bus: Bus | None = None
        self._names: dict[int, str | None] = {}

    @property
    def launcher(self) -> psutil.Popen:
        assert self._process is not None
        return self._process

    # --- start and end

    def start(self, model: Path, cache: Path) -> None:
        """Start the launcher; returns at once."""
        runtime = self.directory / "run"
        runtime.mkdir()
        serve = [sys.executable, "-m", "rootstream", "serve", str(model), "--port", str(self.port)]
        serve += ["--dtype", "float32", "--lease", "1", "--threads", "1", "--cache-dir", str(cache)]
        serve += ["--resume-keep", "90"]  # longer than any client is away, short enough for a soak to come to rest
        serve += ["--tokenizers", str(ROLES["tokenizer"]), "--detokenizers", str(ROLES["detokenizer"])]
        serve += ["--log-format", "text", *self._options]
        with self.log.open("wb") as out:
            self._process = psutil.Popen(
                [sys.executable, "-I", "-S", "-c", _TIED, *serve],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            )

    async def ready(self, patience: float = _START_S) -> None:
        """Wait until everybody says so. Raises RuntimeError with the end of the log."""
        deadline = time.monotonic() + patience
        while not await self._all_ready():
            if self.launcher.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the deployment did not get ready:\n{self.last_lines()}")
            await asyncio.sleep(0.1)

    async def _all_ready(self) -> bool:
        """All pulses say so, and the front doors have read them."""
        awake = await self.awake()
        if not all(member in awake for member in MEMBERS):
            return False
        return await all_ready("127.0.0.1", self.port, ROLES["tokenizer"])

    async def stop(self) -> list[str]:
        """Ctrl-C; returns what was left behind, which is then ended with force."""
        if self._bus is not None:
            await self._bus.close()
        if self._process is None or self._process.poll() is not None:
            return []
        family = self.launcher.children(recursive=True)
        self.launcher.send_signal(signal.SIGINT)
        left: list[str] = []
        try:
            await asyncio.to_thread(self.launcher.wait, _STOP_S)
        except psutil.TimeoutExpired:
            left.append("the launcher")
            self.launcher.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.append(" ".join(process.cmdline()))
                process.kill()
        await asyncio.to_thread(self.launcher.wait)
        return left

    def last_lines(self, count: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    # --- who is there

    def members(self) -> dict[str, int]:
        """Process ids of the children by name: 'worker-0', …, 'redis'. One that died and is not buried yet counts."""
        pids = [
            int(pid)
            for task in Path(f"/proc/{self.launcher.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        self._names = {pid: self._names.get(pid) or _name_of(pid) for pid in pids}
        return {name: pid for pid, name in self._names.items() if name is not None}

    def redis_directory(self) -> Path:
        """Where the embedded server's socket and files are."""
        [directory] = (self.directory / "run").glob("rootstream-*")
        return directory

    async def awake(self) -> dict[str, float]:
        """Who said last that it is ready, and since when that process is there (unix seconds).

        Redis answers or does not, and says nothing of its age. The dead are in the list too: look at their age.
        """
        with contextlib.suppress(Unavailable, ValueError, TimeoutError, OSError):
            async with asyncio.timeout(_ASK_S):
                found = await self.bus().hash(self.bus().names.alive)
                pulses = [msgspec.msgpack.decode(pulse, type=Pulse) for pulse in found.values()]
                return {p.replica: p.incarnation / 1e6 for p in pulses if p.state is State.READY} | {REDIS: 0.0}
        return {}

    def bus(self) -> Bus:
        """Our own connection to the deployment's Redis."""
        if self._bus is None:
            self._bus = Bus.connect(f"unix://{self.redis_directory() / 'redis.sock'}", _NAMESPACE)
        return self._bus


def _name_of(pid: int) -> str | None:
    """The name of one of the launcher's children; None while it is not what it will be."""
    with contextlib.suppress(OSError):
        if b"valkey-server" in Path(f"/proc/{pid}/comm").read_bytes():
            return REDIS
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(b"ROOTSTREAM_REPLICA="):
                return variable.partition(b"=")[2].decode()
    return None


@contextlib.asynccontextmanager
async def deployed(*options: str, model: Path | None = None, cache: Path | None = None) -> AsyncGenerator[Deployment]:
    """A ready deployment of a toy model, and nothing left of it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="rs-chaos-"))
    deployment = Deployment(directory, *options)
    try:
        deployment.start(model or make_toy_model(directory / "toy"), cache or directory / "cache")
        await deployment.ready()
        yield deployment
    finally:
        left: Sequence[str] = await deployment.stop()
        shutil.rmtree(directory, ignore_errors=True)
        if left:
            raise RuntimeError(f"these did not end when told to: {', '.join(left)}")
