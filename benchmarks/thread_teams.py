"""What starting threads for a compiled kernel costs: torch's OpenMP team against numba's own layers.

    .venv/bin/python benchmarks/thread_teams.py

Each way runs in a process of its own, 30 times a small kernel (24 sums of 80 kB) alone, and alternating with 30
products of a decode step, as in a model. Kernels alternate with torch's operators, so what counts is the second figure
less that of the products alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

WAYS = ("team", "omp", "workqueue")
LAYERS, TASKS, SIZE = 30, 24, 20_000


def team_kernel(data: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    """GOMP_parallel of torch's libgomp, as the product does it."""
    from numba import carray  # pyright: ignore[reportPrivateImportUsage]

    from gpu_worker.kernels.launch import KernelCall
    from gpu_worker.kernels.simd import claim, pointer
    from gpu_worker.kernels.team import Team

    read: Any = pointer
    claimed: Any = claim

    def body(arguments: Any) -> None:
        a = carray(arguments, (4,), np.int64)
        rows = carray(read(a[2]), (TASKS, SIZE), np.float32)
        sums = carray(read(a[3]), (TASKS,), np.float32)
        while True:
            task = claimed(a[0])
            if task >= a[1]:
                break
            total = np.float32(0)
            for i in range(SIZE):
                total += rows[task, i]
            sums[task] = total

    call = KernelCall(body, 4, Team())
    call.arguments[2:] = data.ctypes.data, out.ctypes.data
    return lambda: call.run(TASKS)


def numba_kernel(layer: str, data: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    """Numba's prange on one of its threading layers."""
    import numba

    settings: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
    settings.THREADING_LAYER = layer

    def body(rows: Any, sums: Any) -> None:
        for task in numba.prange(TASKS):
            total = np.float32(0)
            for i in range(SIZE):
                total += rows[task, i]
            sums[task] = total

    compiled: Any = numba.njit(body, parallel=True, fastmath=True)
    return lambda: compiled(data, out)


def measure(way: str) -> None:
    torch.set_grad_enabled(False)
    weights = [torch.randn(3072, 576).to(torch.bfloat16) for _ in range(LAYERS)]
    products = [partial(torch.nn.functional.linear, weight=weight) for weight in weights]
    x = torch.randn(8, 576).to(torch.bfloat16)
    data, out = np.random.default_rng(0).random((TASKS, SIZE), dtype=np.float32), np.zeros(TASKS, np.float32)
    kernel = team_kernel(data, out) if way == "team" else numba_kernel(way, data, out)

    def alone() -> None:
        for _ in products:
            kernel()

    def alternating() -> None:
        for product in products:
            product(x)
            kernel()

    def without() -> None:
        for product in products:
            product(x)

    figures: list[str] = []
    for name, step in (("alone", alone), ("products", without), ("alternating", alternating)):
        step()
        times: list[float] = []
        for _ in range(100):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        times.sort()
        figures.append(f"{name} {times[0] * 1e3:6.2f} / {times[25] * 1e3:6.2f} / {times[50] * 1e3:6.2f}")
    print(f"{way:10} ms, best / quartile / median of 100:  " + ",  ".join(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", nargs="?", choices=WAYS)
    way = parser.parse_args().way
    if way is None:
        for each in WAYS:
            subprocess.run([sys.executable, __file__, each], check=True)
    else:
        measure(way)


if __name__ == "__main__":
    main()
