"""Runs the pipelined engine on the Triton kernels, in a process of its own, and sees to it that it ran."""

from __future__ import annotations

import pytest

from tests.gpu_worker.kernels.child import HERE, run

pytest.importorskip("triton", reason="triton is not installed")


def test_the_pipelined_engine_runs_on_triton_kernels_in_the_interpreter() -> None:
    shown = run("pytest", str(HERE / "interpreted_pipeline_triton.py"), "-v", TRITON_INTERPRET="1")
    assert "1 passed" in shown
