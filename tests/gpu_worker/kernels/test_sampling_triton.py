"""Runs the tests of the sampling kernels, each in a process of its own, and sees to it that they ran."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(*arguments: str, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")} | environment
    command = [sys.executable, "-m", *arguments]
    ran = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_sampling_kernels_draw_what_the_host_draws_in_the_interpreter() -> None:
    shown = run("pytest", str(HERE / "interpreted_sampling_triton.py"), "-v", TRITON_INTERPRET="1")
    assert "16 passed" in shown


def test_sampling_kernels_compile_for_gpus(tmp_path: Path) -> None:
    shown = run("tests.gpu_worker.kernels.compile_sampling_triton", TRITON_CACHE_DIR=str(tmp_path))
    assert shown.count("compiled") == 28
