"""Prompts, answers and keys stay out of logs, command lines, other processes' environments and reports.

A real deployment at the most talkative level is asked all kinds of things, good and bad; each holds a word that then
must be nowhere.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.rootstream.running import BANNER, Running, end
from tests.toy import make_toy_model

pytestmark = pytest.mark.slow

PROMPT = "MARKED-PROMPT"
KEY, ADMIN, GUESS = "MARKED-KEY-of-alice", "MARKED-KEY-of-operators", "MARKED-KEY-of-nobody"
SECRETS = ("MARKED-PROMPT", "MARKED-KEY")


def ask(
    launcher: Running, path: str, body: bytes | dict[str, Any] | None, key: str = KEY, **headers: str
) -> tuple[int, str]:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(
        f"http://127.0.0.1:{launcher.port}{path}", data, {"Authorization": f"Bearer {key}", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ask_badly(launcher: Running, sent: bytes) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", launcher.port), 10) as connection:
        connection.sendall(sent)
        connection.recv(4096)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


def test_nothing_secret_is_told(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSTREAM_API_KEYS", f"alice:{KEY}")
    admin = tmp_path / "admin-key"
    admin.write_text(ADMIN)
    launcher = Running(tmp_path, model, "--log-level", "debug", "--admin-key-file", str(admin))
    try:
        launcher.wait_for(BANNER)
        text: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 4, "user": "u"}
        chat: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
        asked = [
            (200, "/v1/completions", text, KEY),
            (200, "/v1/completions", text | {"stream": True}, KEY),
            (200, "/v1/chat/completions", chat | {"stop": [PROMPT]}, KEY),
            (200, "/v1/completions", text | {"regex": f"{PROMPT}[0-9]"}, KEY),
            (400, "/v1/completions", text | {"regex": f"{PROMPT}[0-9"}, KEY),
            (400, "/v1/completions", text | {"json_schema": {"type": PROMPT}}, KEY),
            (400, "/v1/completions", text | {"temperature": PROMPT}, KEY),
            (400, "/v1/completions", text | {"logit_bias": {PROMPT: 1}}, KEY),
            (400, "/v1/completions", {"prompt": PROMPT * 50_000}, KEY),
            (400, "/v1/chat/completions", chat | {"messages": [{"role": PROMPT, "content": "a"}]}, KEY),
            (404, "/v1/completions", text | {"model": PROMPT}, KEY),
            (400, "/v1/completions", f'{{"prompt": "{PROMPT}'.encode(), KEY),
            (400, "/v1/completions", f'{{"prompt": "{PROMPT}\xff"}}'.encode("latin-1"), KEY),
            (401, "/v1/completions", text, GUESS),
            (403, "/metrics", None, KEY),
            (404, f"/{PROMPT}", None, KEY),
            (200, "/server_info", None, ADMIN),
            (200, "/metrics", None, ADMIN),
            (200, "/health", None, ADMIN),
        ]
        for status, path, body, key in asked:
            got, said = ask(launcher, path, body, key)
            assert got == status, (path, body, said)
            if path in {"/server_info", "/metrics", "/health"} and status == 200:
                assert not any(secret in said for secret in SECRETS), path
        ask_badly(launcher, f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {GUESS}\0\r\n\r\n".encode())
        ask_badly(launcher, f"{PROMPT} {GUESS}\r\n\r\n".encode())
        ask_badly(launcher, f"POST /generate HTTP/1.1\r\nHost: {PROMPT}\r\nx-api-key: {KEY}\r\n\r\n".encode())
        for process in [launcher.process, *launcher.family()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                assert not any(secret in " ".join(process.cmdline()) for secret in SECRETS)
        for module in ("gpu_worker", "scheduler_svc", "detokenizer_svc"):
            assert KEY not in launcher.child(module).environ().values(), f"{module} has nothing to do with keys"
            assert f"alice:{KEY}" not in launcher.child(module).environ().values()
        launcher.child("gpu_worker").kill()
        launcher.wait_for("starting it again")
        assert ask(launcher, "/v1/completions", text)[0] == 200
        [directory] = launcher.directories()
        told = launcher.output() + (directory / "valkey.log").read_text(errors="replace")
    finally:
        end(launcher)
    assert "accepted" in told, "it was talkative"
    assert not [line for line in told.splitlines() if any(secret in line for secret in SECRETS)]
    assert "Traceback" not in told


def test_doctor_tells_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEYS", "API_KEY", "ADMIN_KEY"):
        monkeypatch.setenv(f"ROOTSTREAM_{name}", KEY)
    monkeypatch.setenv("ROOTSTREAM_REDIS", f"redis://me:{KEY}@127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "rootstream", "doctor"], check=False, capture_output=True, text=True, timeout=120
    )
    assert "rootstream" in done.stdout
    assert "MARKED" not in done.stdout + done.stderr


def test_keys_that_cannot_be_used_are_not_told(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSTREAM_API_KEYS", f"bad name:{KEY}")
    launcher = Running(tmp_path, model)
    try:
        assert launcher.process.wait(90) == 2
        assert "--api-keys: key 1 has a name" in launcher.output()
        assert "MARKED" not in launcher.output()
    finally:
        end(launcher)


def test_a_public_address_without_a_key_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOTSTREAM_API_KEYS", raising=False)
    launcher = Running(tmp_path, tmp_path / "no-model-is-looked-for", "--host", "0.0.0.0")
    try:
        assert launcher.process.wait(90) == 2
        assert "--api-keys-file" in launcher.output()
        assert "--allow-unauthenticated" in launcher.output()
        assert launcher.directories() == [], "nothing was started"
    finally:
        end(launcher)
