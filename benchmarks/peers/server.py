"""One server to be measured: how it is started, when it is ready, how it ends. Knows nothing of any particular one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.folders import LOGS
from rootstream.bench.load import OPENAI, Dialect
from shared.errors import UserError

_STOP_S = 20.0
_POLL_S = 0.05


class Precision(StrEnum):
    """What the weights are computed in: only like is compared with like."""

    BF16 = "bf16"
    FOUR_BITS = "4-bit"


class Server(NamedTuple):
    """How one server is run."""

    name: str
    """In flags and in the file of results."""

    title: str
    """In the table."""

    precision: Precision
    command: Callable[[int], list[str]]
    """The command line that serves on a port of 127.0.0.1."""

    missing: Callable[[], str | None]
    """What must be installed before it can run, if anything."""

    environment: Mapping[str, str] = {}
    """Added to the environment."""

    ready_path: str = "/health"
    """Answers 200 once requests are taken."""

    dialect: Dialect = OPENAI

    workloads: Sequence[str] | None = None
    """What it is measured with unless somebody names workloads; None for all."""


class Running(NamedTuple):
    """A server that takes requests."""

    url: str
    pid: int
    ready_s: float
    """From its start until ``ready_path`` said so."""


@contextlib.contextmanager
def running(server: Server, patience_s: float) -> Generator[Running]:
    """Start it on a free port, wait until it is ready, stop it with all its children.

    What it prints goes to a file in LOGS. Raises UserError with its last lines where it does not get ready in time.
    """
    if (missing := server.missing()) is not None:
        raise UserError(f"{server.name}: {missing}; run `python -m benchmarks.peers install`")
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{server.name}.log"
    port = free_port()
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(port),
            env={**os.environ, **server.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url + server.ready_path, began + patience_s, server.name, log)
        yield Running(url, process.pid, time.monotonic() - began)
    finally:
        _stop(process)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process: subprocess.Popen[bytes], url: str, deadline: float, name: str, log: Path) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"{name} ended with exit code {process.returncode} before it was ready:\n{_tail(log)}")
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=5),
        ):
            return
        time.sleep(_POLL_S)
    raise UserError(f"{name} was not ready in time; it said last:\n{_tail(log)}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT, and SIGKILL to the whole session for what is still there after a while."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
