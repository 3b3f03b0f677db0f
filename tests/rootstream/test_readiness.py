"""`/ready` over real processes: false soon after any of them hangs or dies, and true again."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.rootstream.running import BANNER, Running, end
from tests.toy import make_toy_model

pytestmark = pytest.mark.slow
_SOON_S = 2.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    launcher = Running(tmp_path_factory.mktemp("run"), make_toy_model(tmp_path_factory.mktemp("toy")))
    try:
        launcher.wait_for(BANNER)
        yield launcher
    finally:
        end(launcher)


def is_ready(running: Running) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/ready", timeout=1) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def until(running: Running, ready: bool, patience: float) -> float:
    """Seconds until `/ready` says so."""
    began = time.monotonic()
    while is_ready(running) != ready:
        assert time.monotonic() - began < patience, running.output()
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("process", ["gpu_worker", "scheduler_svc", "detokenizer_svc", "tokenizer_svc", "valkey"])
def test_a_stopped_process_is_missed_soon_and_goes_on_afterwards(running: Running, process: str) -> None:
    until(running, True, 30)
    child = running.child(process)
    child.send_signal(signal.SIGSTOP)
    try:
        until(running, False, _SOON_S)
    finally:
        child.send_signal(signal.SIGCONT)
    until(running, True, 20)
    assert child.is_running()
    assert running.completes()


@pytest.mark.parametrize("process", ["gpu_worker", "scheduler_svc", "detokenizer_svc", "tokenizer_svc", "valkey"])
def test_a_killed_process_is_missed_soon_or_back_before(running: Running, process: str) -> None:
    until(running, True, 30)
    child = running.child(process)
    child.kill()
    child.wait(10)
    time.sleep(_SOON_S)
    if is_ready(running):
        assert running.child(process).pid != child.pid
    until(running, True, 30)
    assert running.completes()
