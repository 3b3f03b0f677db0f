"""`rootstream serve` as a person runs it, with the toy model: start, deaths, Ctrl-C, kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.stack import free_port
from tests.toy import make_toy_model

pytestmark = pytest.mark.slow
_PATIENCE_S = 90
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
        deadline = time.monotonic() + _PATIENCE_S
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
        deadline = time.monotonic() + _PATIENCE_S
        while not self.completes():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.2)

    def directories(self) -> list[Path]:
        return list(self.runtime.glob("rootstream-*"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Running]:
    """One launcher for several tests: the last of them ends it."""
    launcher = Running(tmp_path_factory.mktemp("run"), model)
    try:
        launcher.wait_for(BANNER)
        yield launcher
    finally:
        end(launcher)


def end(launcher: Running) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        family = launcher.family()
        launcher.process.kill()
        psutil.wait_procs(family, timeout=30)
    launcher.process.wait()


@pytest.mark.parametrize("module", ["gpu_worker", "scheduler_svc", "detokenizer_svc", "tokenizer_svc"])
def test_a_killed_process_is_started_again(running: Running, module: str) -> None:
    assert running.completes()
    deaths = running.output().count("starting it again")
    running.child(module).kill()
    running.wait_for("ended with signal SIGKILL; starting it again", deaths + 1)
    running.completes_again()


def test_ctrl_c_leaves_nothing(running: Running) -> None:
    assert f"http://127.0.0.1:{running.port}/v1/chat/completions" in running.output()
    assert len(running.directories()) == 1
    family = running.family()
    compiling = [process for process in family if "tokenizer_svc.grammar.child" in process.cmdline()]
    assert len(family) - len(compiling) == 5
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0, running.output()
    assert not any(process.is_running() for process in family)
    assert running.directories() == []
    assert "Traceback" not in running.output()


def test_kill_9_leaves_no_process_and_the_next_start_no_directory(tmp_path: Path, model: Path) -> None:
    launcher = Running(tmp_path, model)
    try:
        launcher.wait_for("worker-0: ")
        family = launcher.family()
        launcher.process.kill()
        _, left = psutil.wait_procs(family, timeout=60)
        assert left == []
        stale = launcher.directories()
        assert len(stale) == 1
    finally:
        end(launcher)
    following = Running(tmp_path, model)
    try:
        following.wait_for("worker-0: ")
        assert len(following.directories()) == 1
        assert following.directories() != stale
    finally:
        end(following)


def test_what_only_the_user_can_mend_ends_everything(tmp_path: Path, model: Path) -> None:
    launcher = Running(tmp_path, model, "--context-length", "100000")
    try:
        assert launcher.process.wait(_PATIENCE_S) == 2
        assert "100000" in launcher.output()
        assert "Traceback" not in launcher.output()
        assert launcher.directories() == []
    finally:
        end(launcher)


def test_an_external_redis_that_is_not_there_is_said(tmp_path: Path, model: Path) -> None:
    launcher = Running(tmp_path, model, "--redis", "redis://127.0.0.1:9/0")
    try:
        assert launcher.process.wait(_PATIENCE_S) == 2
        assert "redis://127.0.0.1:9/0" in launcher.output()
    finally:
        end(launcher)
