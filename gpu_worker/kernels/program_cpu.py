"""A forward pass as a list of compiled kernels that all threads run through together, without the interpreter.

Kernels claim tasks from a counter until none are left; then the threads wait for each other, and all go on to the
next kernel. One call into the team runs the whole list: 300 kernels of a small model would otherwise cost 10 us of
Python each.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]

from gpu_worker.kernels.compiling import Compiled
from gpu_worker.kernels.simd import call, call_for_int, claim, pause, pointer, published
from gpu_worker.kernels.team import Team

_COUNTER_STRIDE = 8  # int64 in a cache line
_SPINS = 20_000  # before giving the core to whoever keeps the others from arriving
(_OPS, _NUM_OPS, _ARRIVALS, _TEAM_SIZE, _YIELD) = range(5)


class Op(NamedTuple):
    """One kernel of a program."""

    kernel: int  # address
    arguments: np.ndarray  # int64; the first is the address of the counter, and is set by the program
    waits: bool = True  # whether the kernel after it needs its results


class Program:
    """Kernels in order. Argument arrays may be changed between runs."""

    def __init__(self, ops: Sequence[Op], team: Team) -> None:
        self._ops = tuple(ops)
        self._team = team
        self._counters = np.zeros((len(ops) + 1) * _COUNTER_STRIDE, np.int64)
        self._table = np.zeros((len(ops), 3), np.int64)
        for n, op in enumerate(ops):
            op.arguments[0] = self._counters[n * _COUNTER_STRIDE :].ctypes.data
            self._table[n] = op.kernel, op.arguments.ctypes.data, op.waits
        self._arguments = np.zeros(5, np.int64)
        self._arguments[_OPS] = self._table.ctypes.data
        self._arguments[_NUM_OPS] = len(ops)
        self._arguments[_ARRIVALS] = self._counters[len(ops) * _COUNTER_STRIDE :].ctypes.data
        self._arguments[_TEAM_SIZE], self._arguments[_YIELD] = team.size_function, _yield()
        self._address: int = self._arguments.ctypes.data

    def run(self) -> None:
        """Run all kernels on as many threads as torch is set to use; the interpreter lock is free meanwhile."""
        self._counters.fill(0)
        self._team.run(_executor().address, self._address)


@cache
def _executor() -> Compiled:
    return Compiled(_run_all)


def _run_all(arguments: Any) -> None:
    a = carray(arguments, (5,), np.int64)
    count = a[_NUM_OPS]
    ops = carray(pointer(a[_OPS]), (count, 3), np.int64)
    threads = np.int64(1)
    if a[_TEAM_SIZE] != 0:
        threads = np.int64(call_for_int(a[_TEAM_SIZE]))
    passed = np.int64(0)
    for n in range(count):
        call(ops[n, 0], ops[n, 1])
        if ops[n, 2] != 0 and threads > 1:
            passed += threads
            claim(a[_ARRIVALS])
            spins = np.int64(0)
            while published(a[_ARRIVALS]) < passed:
                pause()
                spins += 1
                if spins > _SPINS and a[_YIELD] != 0:
                    call_for_int(a[_YIELD])


@cache
def _yield() -> int:
    """Address of sched_yield, 0 where there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (OSError, AttributeError, TypeError):
        return 0
