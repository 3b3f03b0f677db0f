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

from shared.watchdog import EXIT_HUNG

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
        process, pump = self._process, self._pump
        assert process is not None
        code = await process.wait()
        if pump is not None:
            await asyncio.wait({pump}, timeout=_DRAIN_S)
            if self._pump is pump:  # nobody else waited for the same end, and went on
                pump.cancel()
                self._pump = None
                _signal_group(process, signal.SIGKILL)  # whatever it has left behind
        return code

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL for what is still there after ``grace`` seconds."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
            if process.returncode is None:
                _signal_group(process, signal.SIGKILL)
        if self._process is process:
            await self.ended()

    def kill(self) -> None:
        """SIGKILL to the process and all its own children."""
        if self._process is not None and self.running:
            _signal_group(self._process, signal.SIGKILL)

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


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def describe_exit(code: int) -> str:
    """An exit code for people."""
    if code == EXIT_HUNG:
        return f"exit code {code}, because its work did not move"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
