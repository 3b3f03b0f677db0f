"""Runs the tests of the Triton kernels, each in a process of its own, and sees to it that they ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu_worker.kernels.child import HERE, run

pytest.importorskip("triton", reason="triton is not installed")


def test_triton_kernels_equal_the_reference_in_the_interpreter() -> None:
    shown = run("pytest", str(HERE / "interpreted_mask_triton.py"), "-v", TRITON_INTERPRET="1")
    assert "5 passed" in shown


def test_triton_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    shown = run("tests.gpu_worker.kernels.compile_mask_triton", TRITON_CACHE_DIR=str(tmp_path))
    assert shown.count("compiled") == 6
