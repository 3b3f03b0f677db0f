"""The device sampler draws what the host's sampler draws: here with kernels in plain torch."""

from __future__ import annotations

import numpy as np
import torch

from gpu_worker.kernels.sampling_reference import PlainSamplingKernels, part_of, uniform_bits
from gpu_worker.sampler import seed_state, uniform
from tests.gpu_worker import sampling_cases as cases


def test_every_row_draws_what_the_host_draws() -> None:
    rng = np.random.default_rng(1)
    borders = rows = 0
    for _ in range(150):
        vocab = int(rng.choice([7, 200, 1000, 3001]))
        batch = cases.random_batch(rng, vocab, int(rng.integers(1, 7)), 8)
        sampler = cases.make_sampler(PlainSamplingKernels(), vocab, 8)
        cases.admit(sampler, batch)
        borders += cases.check(cases.draw(sampler, batch), batch)
        rows += len(batch.rows)
    assert borders < rows / 100


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
