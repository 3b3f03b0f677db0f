"""Runs the tests of the decoder's Triton kernels, each in a process of its own, and sees to it that they ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu_worker.kernels.child import HERE, run

pytest.importorskip("triton", reason="triton is not installed")


def test_kernels_equal_the_reference_in_the_interpreter() -> None:
    files = [str(HERE / f"interpreted_{what}_triton.py") for what in ("decoder", "engine")]
    shown = run("pytest", *files, "-v", TRITON_INTERPRET="1")
    assert "44 passed" in shown


def test_kernels_compile_for_gpus_and_fit_their_shared_memory(tmp_path: Path) -> None:
    shown = run("tests.gpu_worker.kernels.compile_decoder_triton", TRITON_CACHE_DIR=str(tmp_path))
    assert "compiled 33" in shown
