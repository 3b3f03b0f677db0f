"""Real processes: ``rootstream serve`` started as a person would, and stopped by Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.stack import free_port


class Server:
    """One running ``rootstream serve``."""

    def __init__(self, arguments: list[str], log: Path, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(home)}
        command = [str(Path(sys.executable).with_name("rootstream")), "serve", *arguments, "--port", str(self.port)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def wait_ready(self, patience: float = 120) -> None:
        deadline = time.monotonic() + patience
        while not self.is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def child(self, package: str) -> psutil.Process:
        """The process that runs a service."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if package in process.cmdline():
                    return process
        raise AssertionError(f"no process runs {package}")

    def stop(self) -> list[psutil.Process]:
        """Ctrl-C; returns the processes that were left behind."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) in (0, 130), self.log.read_text()
        _, left = psutil.wait_procs(children, timeout=5)
        return left


StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers; all are stopped at the end of the module, leaving nothing behind."""
    running: list[Server] = []

    def start(*arguments: str, wait: bool = True) -> Server:
        folder = tmp_path_factory.mktemp("serve")
        server = Server(list(arguments), folder / "log", folder)
        running.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            assert server.stop() == []
