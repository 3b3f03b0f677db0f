"""`rootstream serve` as a person runs it, with the toy model: start, Ctrl-C, kill -9. Deaths: test_readiness.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.rootstream.running import BANNER, PATIENCE_S, Running, end
from tests.toy import make_toy_model

pytestmark = pytest.mark.slow


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
        assert launcher.process.wait(PATIENCE_S) == 2
        assert "100000" in launcher.output()
        assert "Traceback" not in launcher.output()
        assert launcher.directories() == []
    finally:
        end(launcher)


def test_an_external_redis_that_is_not_there_is_said(tmp_path: Path, model: Path) -> None:
    launcher = Running(tmp_path, model, "--redis", "redis://127.0.0.1:9/0")
    try:
        assert launcher.process.wait(PATIENCE_S) == 2
        assert "redis://127.0.0.1:9/0" in launcher.output()
    finally:
        end(launcher)
