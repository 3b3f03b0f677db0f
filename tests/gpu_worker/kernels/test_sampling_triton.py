"""Runs the tests of the sampling kernels, each in a process of its own, and sees to it that they ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu_worker.kernels.child import HERE, run

pytest.importorskip("triton", reason="triton is not installed")


def test_sampling_kernels_draw_what_the_host_draws_in_the_interpreter() -> None:
    shown = run("pytest", str(HERE / "interpreted_sampling_triton.py"), "-v", TRITON_INTERPRET="1")
    assert "16 passed" in shown


def test_sampling_kernels_compile_for_gpus(tmp_path: Path) -> None:
    shown = run("tests.gpu_worker.kernels.compile_sampling_triton", TRITON_CACHE_DIR=str(tmp_path))
    assert shown.count("compiled") == 28
