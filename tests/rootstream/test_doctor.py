"""`rootstream doctor`: what it finds, and what it calls missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
from pathlib import Path

import pytest

from rootstream import doctor
from shared.config import Settings
from tests.stack import free_port


def findings(settings: Settings) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine(settings)}


def test_a_machine_that_runs_the_tests_can_serve(toy_model: Path) -> None:
    found = findings(Settings(model=str(toy_model), port=free_port()))
    assert [finding for finding in found.values() if not finding.ok] == []
    assert str(toy_model) in found["model"].text
    assert "embedded server starts" in found["Redis"].text
    assert found["torch"].text[0].isdigit()


def test_what_is_missing_is_marked_and_fails(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = Settings(model=str(tmp_path / "none.gguf"), port=taken.getsockname()[1])
        found = findings(settings)
        assert {subject for subject, finding in found.items() if not finding.ok} == {"model", "port"}
        assert "none.gguf" in found["model"].text
        assert doctor.run(settings) == 1


def nvidia_smi(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name in front of the PATH."""
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)


def test_a_gpu_is_described_by_its_driver_and_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    monkeypatch.setattr(doctor, "_TORCH_SEES", "print('CUDA 13.0, NVIDIA H100'); print('CUDA 13.0, another')")
    found = {finding.subject: finding for finding in doctor._gpu()}
    assert found["GPU"].text == "NVIDIA H100, 81559 MiB, 580.1 (name, memory, driver)"
    assert found["CUDA"].text == "CUDA 13.0, NVIDIA H100; CUDA 13.0, another"


def test_a_torch_that_fails_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    monkeypatch.setattr(doctor, "_TORCH_SEES", "raise ImportError('libcudart.so.13 is missing')")
    found = {finding.subject: finding for finding in doctor._gpu()}
    assert not found["CUDA"].ok
    assert "libcudart.so.13 is missing" in found["CUDA"].text


@pytest.mark.skipif("+cpu" not in importlib.metadata.version("torch"), reason="torch is a CUDA build")
def test_a_build_without_cuda_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    found = {finding.subject: finding for finding in doctor._gpu()}
    assert "build without CUDA" in found["CUDA"].text
    assert "Install the CUDA build" in found["CUDA"].text


def test_a_driver_that_does_not_answer_leaves_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "exit 9")
    (finding,) = doctor._gpu()
    assert "does not answer" in finding.text
