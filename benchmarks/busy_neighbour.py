"""A decode step beside a process that keeps a core busy: threads as torch comes, bound, and bound with the policy.

    .venv/bin/python -m benchmarks.busy_neighbour [--steps 100] [--runs 2]

Each way runs in a process of its own, on a quiet machine and beside one busy loop; printed is the mean step of
one row at context 256, in milliseconds. The ways: threads free and always all of them, bound to cores
(OMP_PROC_BIND), and bound with gpu_worker/kernels/thread_policy.py, which is what the worker does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Generator
from typing import NamedTuple


class Way(NamedTuple):
    """How the threads of a team are kept."""

    bound: bool
    policy: bool


WAYS = {"free": Way(False, False), "bound": Way(True, False), "bound, policy": Way(True, True)}


@contextlib.contextmanager
def neighbour(busy: bool) -> Generator[None]:
    """With or without another process on the machine that never sleeps."""
    loop = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10_000))"  # ends with us, even if we are killed
    process = subprocess.Popen([sys.executable, "-c", loop]) if busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def mean_step_ms(policy: bool, steps: int) -> float:
    """In a process of its own: torch reads the environment when it is imported."""
    import torch

    from benchmarks.decode_loop import PAGE_SIZE, batch
    from gpu_worker.kernels.thread_policy import ThreadPolicy
    from gpu_worker.kv_pool import KVPool
    from gpu_worker.loader import load_decoder
    from shared.config import Settings
    from shared.model_files import locate

    def keep_all(self: ThreadPolicy, passed: float, used: float, now: float) -> None:
        """Always as many threads as there are."""

    if not policy:
        ThreadPolicy.observe = keep_all
    settings = Settings()
    files = locate(settings.model, settings.cache_path)
    decoder = load_decoder(files, "cpu", torch.bfloat16, cache_dir=settings.cache_path, quantization="auto")
    pool = KVPool(decoder.config, 64, PAGE_SIZE, decoder.dtype, decoder.device)
    inputs = batch(1, 1, 256, decoder.config.vocab_size)
    for _ in range(10):
        decoder.forward(inputs, pool)
    began = time.perf_counter()
    for _ in range(steps):
        decoder.forward(inputs, pool)
    return (time.perf_counter() - began) / steps * 1e3


def measured(way: str, steps: int) -> float:
    environment = dict(os.environ)
    environment.pop("OMP_PROC_BIND", None)
    if WAYS[way].bound:
        environment["OMP_PROC_BIND"] = "true"
    command = [sys.executable, "-m", "benchmarks.busy_neighbour", "--way", way, "--steps", str(steps)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="measure one way, in this process")
    options = parser.parse_args()
    if options.way is not None:
        print(mean_step_ms(WAYS[options.way].policy, options.steps))
        return
    for way in WAYS:
        for busy in (False, True):
            with neighbour(busy):
                figures = [f"{measured(way, options.steps):6.1f}" for _ in range(options.runs)]
            print(f"{way:14} {'beside a busy process' if busy else 'quiet':22} {' '.join(figures)} ms", flush=True)


if __name__ == "__main__":
    main()
