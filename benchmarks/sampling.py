"""What a draw costs on a GPU, replayed from a captured graph: by rows, vocabulary and what the rows ask for.

    .venv/bin/python -m benchmarks.sampling

Logits are normal, with a tail that makes the best tokens stand out as a model's do. "plain" is the same draw in plain
torch, which sorts whole rows, launched without a graph. Times are medians in microseconds; "host" is what it takes to
launch a draw that was not captured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.kernels.sampling import SamplingKernels
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels
from gpu_worker.kernels.selection import sampling_kernels_for
from shared.protocol import Sampling

KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {},
    "top_k 50": {"top_k": 50},
    "top_k 50, cold": {"top_k": 50, "temperature": 0.3},
    "top_p 0.9": {"top_p": 0.9},
    "top_p 0.99, hot": {"top_p": 0.99, "temperature": 2.0},
    "min_p 0.05": {"min_p": 0.05},
    "all, penalties": {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1, "frequency_penalty": 0.2},
}
CONTEXT = 4096
REPEATS = 50


def filled(kernels: SamplingKernels, count: int, vocab: int, parameters: dict[str, Any]) -> DeviceSampler:
    """A sampler whose rows have 1,000 tokens each."""
    rng = np.random.default_rng(0)
    sampler = DeviceSampler(kernels, vocab, count, CONTEXT, torch.device("cuda"))
    for row in range(count):
        tokens = rng.integers(0, vocab, 1000).astype(np.int32)
        sampler.admit(row, Sampling(max_tokens=CONTEXT, seed=row, **parameters), tokens, 500)
    sampler.flush()
    return sampler


def likely_logits(count: int, vocab: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn((count, vocab), device="cuda", generator=generator) * 2.5
    peaks = torch.randint(vocab, (count, 100), device="cuda", generator=generator)
    return logits.scatter_add_(1, peaks, torch.rand((count, 100), device="cuda", generator=generator) * 12)


def device_us(run: Callable[[], object]) -> float:
    """Median time of one run between two events."""
    times: list[float] = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000)
    return statistics.median(times)


def host_us(run: Callable[[], object]) -> float:
    """Median time until one run has been launched."""
    times: list[float] = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        begin = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - begin) / 1000)
    return statistics.median(times)


def measure(count: int, vocab: int, parameters: dict[str, Any]) -> tuple[float, float, float]:
    """Captured, launched and plain."""
    logits, rows = likely_logits(count, vocab), torch.arange(count, dtype=torch.int32, device="cuda")
    sampler = filled(sampling_kernels_for(torch.device("cuda")), count, vocab, parameters)
    needs = sampler.needs(range(count))
    sampler.draw(logits, rows, needs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sampler.draw(logits, rows, needs)
    captured = device_us(graph.replay)
    launched = host_us(lambda: sampler.draw(logits, rows, needs))
    plain = filled(PlainSamplingKernels(), count, vocab, parameters)
    plain.draw(logits, rows, needs)
    return captured, launched, device_us(lambda: plain.draw(logits, rows, needs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="*", default=[49_152, 128_256, 262_144])
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 8, 64, 256])
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name())
    print(f"{'':>18}{'vocab':>8}{'rows':>6}{'graph':>9}{'host':>9}{'plain':>9}")
    for vocab in arguments.vocab:
        for count in arguments.rows:
            for kind, parameters in KINDS.items():
                times = "".join(f"{us:9.1f}" for us in measure(count, vocab, parameters))
                print(f"{kind:>18}{vocab:8}{count:6}{times}")


if __name__ == "__main__":
    main()
