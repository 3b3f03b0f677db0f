"""The launcher's parts that need no services: back-off, log lines, private directories, child processes, port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream import log_lines
from rootstream.backoff import AT_ONCE_S, FIRST_S, LONGEST_S, STEADY_S, Backoff
from rootstream.banner import banner, url_of
from rootstream.child import Child, describe_exit
from rootstream.embedded import EmbeddedServer
from rootstream.launch import check_port, serve
from rootstream.runtime_dir import private_directory, remove_stale
from shared.config import Settings
from shared.errors import UserError
from shared.protocol import ModelCard

# --- back-off ---------------------------------------------------------------------------------


@given(st.lists(st.floats(0, STEADY_S - 0.1), min_size=1, max_size=20))
def test_delays_double_up_to_a_bound(lives: list[float]) -> None:
    backoff = Backoff()
    delays = [backoff.after(served) for served in lives]
    assert delays == [min(FIRST_S * 2**n, LONGEST_S) for n in range(len(lives))]
    assert backoff.deaths == len(lives)


def test_who_served_for_a_while_is_back_at_once_with_a_clean_record() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(0.1)
    assert backoff.after(STEADY_S) == AT_ONCE_S
    assert backoff.after(0.0) == FIRST_S


# --- log lines ---------------------------------------------------------------------------------


def test_json_lines_become_text() -> None:
    line = '{"event":"model loaded","level":"info","role":"worker","replica":"worker-0","timestamp":"x","kv_tokens":5}'
    assert log_lines.read(line) == ("info", "model loaded  kv_tokens=5")


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "{not json", '{"a": 1}', "[1]", "{}"])
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert log_lines.read(line) == ("", line)


def test_exceptions_follow_their_event() -> None:
    assert (
        log_lines.read('{"event":"failed","level":"error","exception":"Trace\\nback\\n"}').text == "failed\nTrace\nback"
    )


def test_the_last_error_is_found() -> None:
    lines = ['{"event":"one","level":"error"}', '{"event":"two","level":"error"}', '{"event":"three","level":"info"}']
    assert log_lines.last_error(lines) == "two"
    assert log_lines.last_error(["no", lines[2]]) is None


# --- private directories ---------------------------------------------------------------------


def test_directory_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    with private_directory(tmp_path) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "appendonly").mkdir()
        (directory / "appendonly" / "file").write_text("data")
        with private_directory(tmp_path) as other:
            assert other != directory
            assert directory.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_only_directories_of_the_dead_are_removed(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from rootstream.runtime_dir import private_directory\n"
        "with private_directory(pathlib.Path(sys.argv[1])) as d: print(d, flush=True); time.sleep(60)"
    )
    foreign = tmp_path / "rootstream-of-somebody"
    foreign.mkdir()
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        directory = Path(owner.stdout.readline().decode().strip())
        remove_stale(tmp_path)
        assert directory.is_dir()
        owner.kill()
    remove_stale(tmp_path)
    assert not directory.exists()
    assert foreign.is_dir()


# --- child processes -------------------------------------------------------------------------


def child(tmp_path: Path, source: str, lines: list[str]) -> Child:
    (tmp_path / "made_module.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return Child("made-0", "made_module", environment, lambda name, line: lines.append(f"{name} {line}"))


async def test_lines_of_both_outputs_arrive_and_are_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    made = child(tmp_path, "import sys\nprint('out')\nsys.stdout.flush()\nsys.stderr.write('err')\nsys.exit(3)", lines)
    await made.start()
    assert await made.ended() == 3
    assert sorted(lines) == ["made-0 err", "made-0 out"]
    assert sorted(made.tail) == ["err", "out"]
    assert not made.running


async def test_stop_is_orderly_where_the_process_is(tmp_path: Path) -> None:
    source = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\ntime.sleep(60)"
    )
    lines: list[str] = []
    made = child(tmp_path, source, lines)
    await made.start()
    await until(lines)
    await made.stop(grace=30)
    assert await made.ended() == 0


async def test_stop_kills_a_process_that_does_not_listen_and_its_children(tmp_path: Path) -> None:
    source = (
        "import signal, subprocess, sys, time\nsignal.signal(15, signal.SIG_IGN)\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True)\ntime.sleep(60)"
    )
    lines: list[str] = []
    made = child(tmp_path, source, lines)
    await made.start()
    await until(lines)
    grandchild = int(lines[0].split()[1])
    await made.stop(grace=0.05)
    assert describe_exit(await made.ended()) == "signal SIGKILL"
    await gone(grandchild)


async def until(lines: list[str]) -> None:
    async with asyncio.timeout(20):
        while not lines:
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        with contextlib.suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.01)


# --- the embedded server -----------------------------------------------------------------------


def test_a_tied_server_ends_with_its_killed_owner(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from rootstream.embedded import EmbeddedServer\n"
        "s = EmbeddedServer(pathlib.Path(sys.argv[1]), tied=True); s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        assert "valkey" in " ".join(server.cmdline())
        owner.kill()
    deadline = time.monotonic() + 20
    with contextlib.suppress(psutil.NoSuchProcess):
        while server.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_server_keeps_its_data_over_a_kill(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    try:
        assert ask(server, b"SET a 1\r\nWAITAOF 1 0 5000\r\n").startswith(b"+OK")
        assert server.pid is not None
        psutil.Process(server.pid).kill()
        deadline = time.monotonic() + 20
        while server.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.start()
        assert ask(server, b"GET a\r\n") == b"$1\r\n1\r\n"
    finally:
        server.stop()
    assert not server.socket.exists()


def ask(server: EmbeddedServer, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(server.socket))
        connection.sendall(request)
        answer = connection.recv(1000)
        while answer.count(b"\r\n") < 2:
            answer += connection.recv(1000)
        return answer


# --- port and banner ----------------------------------------------------------------------------


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is in use"):
            serve(Settings(port=port, model="/nonexistent"))
    check_port("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1"):
        check_port("192.0.2.1", 30000)


def test_settings_of_single_processes_are_refused() -> None:
    with pytest.raises(UserError, match="replica"):
        serve(Settings(replica="x"))


def test_urls() -> None:
    assert url_of("0.0.0.0", 30000) == "http://127.0.0.1:30000"
    assert url_of("::1", 1) == "http://[::1]:1"


def test_banner_tells_url_model_capacity_and_a_command() -> None:
    card = ModelCard("toy", "llama", "float32", "cpu", 320, 2048, 16, 64, 8, 256)
    assert "$ROOTSTREAM_API_KEY" in banner(card, "my-name", "http://127.0.0.1:3", 1.25, needs_key=True)
    text = banner(card, "my-name", "http://127.0.0.1:3", 1.25)
    assert "API_KEY" not in text
    for wanted in ("http://127.0.0.1:3", "my-name", "float32 on cpu", "1,024 tokens", "curl", '"model": "my-name"'):
        assert wanted in text
