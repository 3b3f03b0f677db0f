"""`rootstream doctor`: what it finds, and what it calls missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
from pathlib import Path

import pytest

from rootstream.doctor import machine, packages, serving
from rootstream.doctor.finding import Finding, State
from rootstream.doctor.report import examine, run
from shared.config import Settings
from tests.rootstream import openai_server
from tests.stack import free_port


def by_subject(found: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in found}


def test_a_machine_that_runs_the_tests_can_serve(toy_model: Path) -> None:
    found = by_subject(examine(Settings(model=str(toy_model), port=free_port())))
    assert [finding for finding in found.values() if not finding.ok] == []
    assert str(toy_model) in found["model"].text
    assert "embedded server starts" in found["Redis"].text
    assert found["torch"].text[0].isdigit()
    assert "none runs" in found["server"].text


def test_what_is_missing_is_marked_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(model=str(tmp_path / "none.gguf"), redis="redis://127.0.0.1:9/0", port=free_port())
    assert run(settings, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert {one["subject"] for one in report["findings"] if one["state"] == "problem"} == {"model", "Redis"}
    assert all(set(one) == {"subject", "text", "state", "advice"} for one in report["findings"])


def test_a_port_of_somebody_else_is_a_problem() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        finding = serving._port(Settings(port=taken.getsockname()[1]), is_ours=False)
    assert finding.state is State.PROBLEM
    assert "choose another --port" in finding.text


def test_a_real_redis_is_named_with_its_version(redis_url: str) -> None:
    finding = serving._redis(Settings(redis=redis_url))
    assert finding.ok
    assert "Valkey" in finding.text


@pytest.mark.parametrize(
    ("info", "state", "said"),
    [
        ({"redis_version": "7.2.4"}, State.OK, "Redis 7.2.4"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, State.OK, "Valkey 8.1.0"),
        ({"redis_version": "6.0.16"}, State.PROBLEM, "6.2 or later"),
        ({"redis_version": "7.0", "maxmemory": 5, "maxmemory_policy": "allkeys-lru"}, State.WARNING, "noeviction"),
    ],
)
def test_what_redis_says_of_itself_is_judged(info: dict[str, object], state: State, said: str) -> None:
    finding = serving._judged("here", info)
    assert finding.state is state
    assert said in finding.text + finding.advice


async def test_a_running_server_is_looked_at() -> None:
    async with openai_server.serving(openai_server.EchoServer(key="right")) as url:
        known = await serving._listener(url, "right", asked_for=True)
        stranger = await serving._listener(url, None, asked_for=True)
    assert known.is_there is False, "it has no /health"
    assert "no such server" in known.finding.text
    assert "ROOTSTREAM_API_KEY" not in known.finding.text
    assert stranger.finding.state is State.WARNING
    away = await serving._listener("http://127.0.0.1:9", None, asked_for=True)
    assert away.finding.state is State.PROBLEM


def test_processes_that_are_not_ready_are_named() -> None:
    info = {"model": "m", "processes": {"worker": [{"replica": "w", "state": "loading", "detail": "weights"}]}}
    assert serving._health("u", info).state is State.WARNING
    info["processes"]["worker"][0]["state"] = "ready"  # type: ignore[index]
    assert serving._health("u", info) == Finding("server", "u serves m; worker w: ready")


def test_a_variable_that_means_nothing_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSTREAM_PAGESIZE", "secret")
    monkeypatch.setenv("ROOTSTREAM_CHAT_TEMPERATURE", "1")
    found = by_subject(examine(Settings(port=free_port())))["environment"]
    assert found.state is State.WARNING
    assert "ROOTSTREAM_PAGESIZE means nothing, ROOTSTREAM_PAGE_SIZE does" in found.text
    assert "TEMPERATURE" not in found.text
    assert "secret" not in found.text


def test_packages_beside_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    version = importlib.metadata.version("aiohttp")
    lock.write_text(f"# pins\naiohttp=={version}\nredis==0.0.1  # old\nabsent-package==1\n")
    found = by_subject(list(packages.look(lock)))["lock"]
    assert found.state is State.WARNING
    assert found.text.startswith("1 of 2 packages")
    assert "there: 0.0.1" in found.text


def nvidia_smi(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name in front of the PATH."""
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)


def test_a_gpu_is_described_by_its_driver_and_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    monkeypatch.setattr(machine, "TORCH_SEES", "print('CUDA 13.0, NVIDIA H100'); print('CUDA 13.0, another')")
    found = by_subject(list(machine.gpu()))
    assert found["GPU"].text == "NVIDIA H100, 81559 MiB, 580.1 (name, memory, driver)"
    assert found["CUDA"].text == "CUDA 13.0, NVIDIA H100; CUDA 13.0, another"


def test_a_torch_that_fails_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    monkeypatch.setattr(machine, "TORCH_SEES", "raise ImportError('libcudart.so.13 is missing')")
    found = by_subject(list(machine.gpu()))
    assert not found["CUDA"].ok
    assert "libcudart.so.13 is missing" in found["CUDA"].text


@pytest.mark.skipif("+cpu" not in importlib.metadata.version("torch"), reason="torch is a CUDA build")
def test_a_build_without_cuda_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    found = by_subject(list(machine.gpu()))
    assert "build without CUDA" in found["CUDA"].text
    assert "Install the CUDA build" in found["CUDA"].text


def test_a_driver_that_does_not_answer_leaves_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "exit 9")
    (finding,) = machine.gpu()
    assert "does not answer" in finding.text
    assert finding.state is State.WARNING
