"""One compiling child as its parent sees it: start, one grammar at a time, and a certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

import tokenizer_svc
from shared.config import without_settings
from shared.grammar import Rejected, encode
from tokenizer_svc.grammar.frames import HEADER, OUT_OF_MEMORY, Outcome, Reply, frame
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec

_CHILD = "tokenizer_svc.grammar.child"
_CODE = Path(tokenizer_svc.__file__).parent.parent  # a child runs the code of its parent
_START_S = 30.0  # imports, on a machine that has better things to do
_MEGABYTE = 2**20
_DEATHS_BY_SIZE = {OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS}
"""How processes end that get no more memory or stack, or that the system picks when it has none left."""


class CompilerFailed(RuntimeError):
    """A child that did not start, or ended for no reason that lies in its grammar."""


class Result(NamedTuple):
    """What became of a grammar, and how long it took in seconds."""

    reply: Reply
    seconds: float


class Compiler:
    """A running child."""

    def __init__(self, process: asyncio.subprocess.Process, limits: GrammarLimits) -> None:
        self._process = process
        self._limits = limits
        self._is_leaving = False

    @classmethod
    async def start(cls, limits: GrammarLimits) -> Compiler:
        """A child that waits for a grammar. Raises CompilerFailed."""
        base = without_settings()
        environment = base | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_CODE), base.get("PYTHONPATH")))),
            "OPENBLAS_NUM_THREADS": "1",  # each thread would take address space from the limit
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _CHILD, str(os.getpid())),
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise CompilerFailed(f"no process to compile grammars in could be started: {error}") from error
        compiler = cls(process, limits)
        try:
            async with asyncio.timeout(_START_S):
                await compiler._exchange(limits)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            await compiler.end()
            message = f"a process to compile grammars in ended while it started, with status {process.returncode}"
            raise CompilerFailed(message) from error
        except BaseException:
            await compiler.end()
            raise
        return compiler

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it may be given a grammar, as far as anyone knows."""
        return not self._is_leaving and self._process.returncode is None

    async def compile(self, spec: GrammarSpec) -> Result:
        """Compile one grammar within the limits. Raises CompilerFailed where it is not the grammar's fault."""
        started = time.perf_counter()
        limits = self._limits
        try:
            async with asyncio.timeout(limits.compile_wall_s):
                reply = msgspec.msgpack.decode(await self._exchange(spec), type=Reply)
                self._is_leaving = reply.is_last
        except TimeoutError:
            self.kill()
            self._is_leaving = True
            message = f"is not compiled after {limits.compile_wall_s:g} s on this busy machine: make it smaller"
            reply = _rejection(Outcome.TIMEOUT, message)
        except (OSError, asyncio.IncompleteReadError) as error:
            status = await self._process.wait()
            if status == -signal.SIGPROF:
                message = f"takes more than {limits.compile_s:g} s to compile: make it smaller"
                reply = _rejection(Outcome.TIMEOUT, message)
            elif status in _DEATHS_BY_SIZE:
                message = f"needs more than {limits.compile_bytes // _MEGABYTE} MiB to compile: make it smaller"
                reply = _rejection(Outcome.MEMORY, message)
            else:
                message = f"the process that compiled a {spec.kind} grammar ended with status {status}"
                raise CompilerFailed(message) from error
        return Result(reply, time.perf_counter() - started)

    async def ended(self) -> None:
        """Wait until the child is dead."""
        await self._process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill the child and wait until nothing of it is left. No compile may be under way."""
        self.kill()
        await self._process.communicate()

    async def _exchange(self, message: object) -> bytes:
        """Send one message, return the bytes of the answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame(message))
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(HEADER), "big")
        return await process.stdout.readexactly(length)


def _rejection(outcome: Outcome, message: str) -> Reply:
    return Reply(outcome, encode(Rejected(message)), message)
