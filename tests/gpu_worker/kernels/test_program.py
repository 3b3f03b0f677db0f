"""Kernels of a program run one after the other, each on all threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels import team
from gpu_worker.kernels.compiling import Compiled
from gpu_worker.kernels.program_cpu import Op, Program
from gpu_worker.kernels.simd import claim, pointer
from gpu_worker.kernels.team import Team

SIZE = 5000
read: Any = pointer
claimed: Any = claim


def _neighbours(arguments: Any) -> None:
    """out[n] = x[n] + x[n + 1], round the end: wrong where the kernel before has not finished."""
    a = carray(arguments, (3,), np.int64)
    x = carray(read(a[1]), (SIZE,), np.int64)
    out = carray(read(a[2]), (SIZE,), np.int64)
    while True:
        n = claimed(a[0])
        if n >= SIZE:
            break
        out[n] = x[n] + x[(n + 1) % SIZE]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(steps: int, chosen: Team) -> np.ndarray:
    kernel = Compiled(_neighbours)
    buffers = [np.arange(SIZE, dtype=np.int64) % 7, np.zeros(SIZE, np.int64)]
    ops: list[Op] = []
    for step in range(steps):
        source, target = buffers[step % 2], buffers[(step + 1) % 2]
        ops.append(Op(kernel.address, np.array([0, source.ctypes.data, target.ctypes.data], np.int64)))
    program = Program(ops, chosen)
    program.run()
    first = buffers[steps % 2].copy()
    buffers[0][:] = np.arange(SIZE) % 7
    program.run()
    assert (buffers[steps % 2] == first).all(), "the second run differs from the first"
    return first


def expected(steps: int) -> np.ndarray:
    x = np.arange(SIZE, dtype=np.int64) % 7
    for _ in range(steps):
        x = x + np.roll(x, -1)
    return x


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.usefixtures("threads")
def test_each_kernel_sees_what_the_one_before_wrote(count: int) -> None:
    torch.set_num_threads(count)
    assert (run(12, Team()) == expected(12)).all()


def test_programs_run_without_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_gomp", lambda: None)
    chosen = Team()
    assert not chosen.is_parallel
    assert (run(5, chosen) == expected(5)).all()


def test_the_team_is_torchs_own() -> None:
    assert Team().is_parallel, "torch's libgomp was not found"
