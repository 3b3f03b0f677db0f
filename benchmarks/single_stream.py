"""One stream through the whole server against the bare decoder loop, in one run: what the services cost.

    .venv/bin/python -m benchmarks.single_stream [--rounds 3] [options of rootstream serve]

The two take turns: the bare loop (one row, at the workload's mean context, threads bound as the worker binds them),
then `rootstream bench single` against a server of its own. Printed for each round: milliseconds per token of
both, and their ratio; then the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time

from benchmarks.serve import server
from rootstream.bench.run import Plan, measure

CONTEXT = 192  # of the workload `single`: 128 tokens in, 128 out


def bare_step_ms(steps: int) -> float:
    """Mean step of the bare loop, in a process of its own."""
    import torch

    from benchmarks.decode_loop import PAGE_SIZE, batch
    from gpu_worker.kv_pool import KVPool
    from gpu_worker.loader import load_decoder
    from shared.config import Settings
    from shared.model_files import locate

    settings = Settings()
    files = locate(settings.model, settings.cache_path)
    decoder = load_decoder(files, "cpu", torch.bfloat16, cache_dir=settings.cache_path, quantization="auto")
    pool = KVPool(decoder.config, 64, PAGE_SIZE, decoder.dtype, decoder.device)
    inputs = batch(1, 1, CONTEXT, decoder.config.vocab_size)
    for _ in range(20):
        decoder.forward(inputs, pool)
    began = time.perf_counter()
    for _ in range(steps):
        decoder.forward(inputs, pool)
    return (time.perf_counter() - began) / steps * 1e3


def bare() -> float:
    command = [sys.executable, "-m", "benchmarks.single_stream", "--bare"]
    environment = {"OMP_PROC_BIND": "true", **os.environ}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of the bare loop")
    parser.add_argument("--bare", action="store_true", help="only the bare loop, in this process")
    options, serve_options = parser.parse_known_args()
    if options.bare:
        print(bare_step_ms(options.steps))
        return
    rounds: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        loop = bare()
        with server(serve_options) as url:
            figures = asyncio.run(measure(url, Plan(["single"])))["single"]
        rounds.append((loop, figures.per_token))
        print(f"bare loop {loop:.1f} ms, whole server {figures.per_token:.1f} ms: {figures.per_token / loop:.2f} times")
    loop, whole = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"medians: bare loop {loop:.1f} ms, whole server {whole:.1f} ms a token: {whole / loop:.2f} times")


if __name__ == "__main__":
    main()
