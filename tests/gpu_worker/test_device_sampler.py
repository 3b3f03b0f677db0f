"""The device sampler draws what the host's sampler draws: here with kernels in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gpu_worker.kernels.sampling import SamplingKernels
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels, part_of, uniform_bits
from gpu_worker.sampler import seed_state, uniform
from tests.gpu_worker.sampling_checks import every_check, random_batches


@every_check
def test_device_sampler(check: Callable[[SamplingKernels], None]) -> None:
    check(PlainSamplingKernels())


def test_many_random_batches() -> None:
    random_batches(PlainSamplingKernels(), 150)


def test_uniform_draws_are_the_same_bit_for_bit() -> None:
    rng = np.random.default_rng(2)
    seeds = [0, 1, 2**63, 2**64 - 1, *rng.integers(0, 2**64, 200, dtype=np.uint64).tolist()]
    indices = [0, 1, 2**20, 77, *rng.integers(0, 2**20, 200).tolist()]
    states = torch.from_numpy(np.array([seed_state(seed) for seed in seeds], np.uint64).view(np.int64))
    bits = uniform_bits(states, torch.tensor(indices, dtype=torch.int32))
    assert [int(value) * 2.0**-53 for value in bits] == [uniform(*each) for each in zip(seeds, indices, strict=True)]


def test_parts_of_a_total_are_exact() -> None:
    rng = np.random.default_rng(3)
    parts = [0, 1, 2**53 - 1, 2**53, *rng.integers(0, 2**53, 300).tolist()]
    totals = [2**62 - 1, 2**62 - 1, 2**62 - 1, 2**62 - 1, *rng.integers(0, 2**62, 300).tolist()]
    found = part_of(torch.tensor(parts), torch.tensor(totals))
    assert found.tolist() == [part * total >> 53 for part, total in zip(parts, totals, strict=True)]
