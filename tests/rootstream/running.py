"""`rootstream serve` as a process, with the toy model or another."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from tests.stack import free_port

PATIENCE_S = 90
BANNER = "rootstream is ready at"


class Running:
    """One launcher under test."""

    def __init__(self, runtime: Path, model: Path, *options: str) -> None:
        self.port = free_port()
        self.runtime = runtime
        self.log = runtime / f"log-{self.port}"
        command = [sys.executable, "-m", "rootstream", "serve", str(model), "--port", str(self.port)]
        with self.log.open("wb") as out:
            self.process = psutil.Popen(
                [*command, "--kv-memory", "32MiB", *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            )

    def family(self) -> list[psutil.Process]:
        return self.process.children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(word in argument for argument in process.cmdline()):
                    return process
        raise AssertionError(f"no {word} among the children:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.output().count(text) < count:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def completes(self) -> bool:
        """Whether it answers a request."""
        body = b'{"prompt": "the quick brown", "max_tokens": 4, "ignore_eos": true}'
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return b'"completion_tokens":4' in response.read().replace(b" ", b"")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def completes_again(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.completes():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.2)

    def directories(self) -> list[Path]:
        return list(self.runtime.glob("rootstream-*"))


def end(launcher: Running) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        family = launcher.family()
        launcher.process.kill()
        psutil.wait_procs(family, timeout=30)
    launcher.process.wait()
