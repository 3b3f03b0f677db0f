"""One child process: start, output line by line, end. Knows nothing of what it does or when it should restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

_KEPT_LINES = 60
_LONGEST_LINE = 2**20
_DRAIN_S = 0.5  # for the last lines, which a grandchild with the same pipe could hold open


class Child:
    """``python -m module`` in a session of its own, so that Ctrl-C reaches only the launcher.

    ``on_line`` gets each line it prints, stdout and stderr alike; the last ones are kept in ``tail``.
    """

    def __init__(
        self, name: str, module: str, environment: Mapping[str, str], on_line: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self.started = 0.0  # unix seconds
        self._command = (sys.executable, "-P", "-m", module)  # -P: the working directory has no say
        self._environment = dict(environment)
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        self.tail.clear()
        self.started = time.time()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pump = asyncio.create_task(self._read(self._process.stdout))

    async def ended(self) -> int:
        """Wait for the end of the process and of its output; the exit code, negative for a signal."""
        assert self._process is not None
        code = await self._process.wait()
        if self._pump is not None:
            await asyncio.wait({self._pump}, timeout=_DRAIN_S)
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
            self._signal_group(signal.SIGKILL)  # whatever it has left behind
        return code

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL for what is still there after ``grace`` seconds."""
        if self.running:
            assert self._process is not None
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
            self.kill()
        if self._process is not None:
            await self.ended()

    def kill(self) -> None:
        """SIGKILL to the process and all its own children."""
        if self.running:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > _LONGEST_LINE:
                self._take(rest)
                rest = b""
        if rest:
            self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self.tail.append(text)
            self._on_line(self.name, text)


def describe_exit(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
