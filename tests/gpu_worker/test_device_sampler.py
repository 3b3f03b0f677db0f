"""The device sampler draws what the host's sampler draws: here with kernels in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.kernels.sampling import MOST_POSITIONS, MOST_TOKENS, Needs
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels, part_of, uniform_bits
from gpu_worker.sampler import seed_state, uniform
from shared.protocol import Sampling
from tests.gpu_worker.sampling_cases import Here, admit, make_sampler, random_batch
from tests.gpu_worker.sampling_checks import every_check, random_batches


@every_check
def test_device_sampler(check: Callable[[Here], None]) -> None:
    check(Here(PlainSamplingKernels()))


def test_many_random_batches() -> None:
    random_batches(Here(PlainSamplingKernels()), 150)


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


def test_frequencies_are_those_of_the_softmax() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])
    sampler = make_sampler(Here(PlainSamplingKernels()), 5, 4000)
    rows = torch.arange(4000, dtype=torch.int32)
    for row in range(4000):
        sampler.admit(row, Sampling(max_tokens=1, seed=row), np.zeros(1, np.int32), 1)
    logits = torch.from_numpy(np.log(probabilities).astype(np.float32)).repeat(4000, 1)
    drawn = sampler.draw(logits, rows, sampler.needs(rows.numpy()))
    found = np.bincount(drawn.tokens.numpy(), minlength=5)
    assert ((found - 4000 * probabilities) ** 2 / (4000 * probabilities)).sum() < 18.5  # once in a thousand seeds


@pytest.mark.parametrize(
    ("vocab", "context"), [(0, 10), (MOST_TOKENS + 1, 10), (10, MOST_POSITIONS - 1)], ids=["none", "wide", "long"]
)
def test_what_the_arithmetic_does_not_hold_is_refused(vocab: int, context: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        DeviceSampler(PlainSamplingKernels(), vocab, 1, context, torch.device("cpu"))


def test_edits_that_do_not_fit_are_refused_and_change_nothing() -> None:
    sampler = make_sampler(Here(PlainSamplingKernels()), 5000, 2)
    sampler.admit(0, Sampling(max_tokens=1), np.array((1, 2, 3), np.int32), 2)
    with pytest.raises(ValueError, match="prompt"):
        sampler.replace(0, 1, (4,))
    with pytest.raises(ValueError, match="ends at 3"):
        sampler.replace(0, 4, (4,))
    with pytest.raises(ValueError, match="room for"):
        sampler.append(0, 3, [4] * 100)
    with pytest.raises(ValueError, match="room for"):
        sampler.admit(0, Sampling(max_tokens=1), np.zeros(62, np.int32), 2)
    with pytest.raises(ValueError, match="can be held"):
        sampler.admit(
            0, Sampling(max_tokens=1, logit_bias=tuple((token, 1.0) for token in range(3000))), np.zeros(1), 1
        )
    with pytest.raises(ValueError, match="vocabulary"):
        sampler.draw(torch.zeros(1, 4999), torch.tensor([0], dtype=torch.int32), sampler.needs([0]))
    sampler.flush()
    assert sampler.history[0, : sampler.lengths[0]].tolist() == [1, 2, 3]


def test_needs_are_those_of_the_rows() -> None:
    sampler = make_sampler(Here(PlainSamplingKernels()), 50, 5)
    kinds: list[dict[str, Any]] = [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"temperature": 0.0, "min_tokens": 2}]
    for row, parameters in enumerate(kinds):
        sampler.admit(row, Sampling(max_tokens=9, stop_token_ids=(3,), **parameters), np.zeros(1, np.int32), 1)
    assert sampler.needs([-1, 0]) == (False, False, False)
    assert sampler.needs([1, 0]) == (False, True, False)
    assert sampler.needs(np.array([2, -1])) == (False, True, True)
    assert sampler.needs([3]) == (True, False, False)
    assert sampler.needs([1, 2, 3]) == (True, True, True)
    sampler.admit(3, Sampling(max_tokens=9), np.zeros(1, np.int32), 1)
    assert sampler.needs([3]) == (False, True, False)
    assert sampler.needs([]) == (False, False, False)


def test_a_draw_may_do_more_than_it_needs() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        batch = random_batch(rng, 300, 4, 4)
        found: list[list[int]] = []
        for all_of_it in (False, True):
            sampler = make_sampler(Here(PlainSamplingKernels()), 300, 4)
            admit(sampler, batch)
            needs = Needs(True, True, True) if all_of_it else sampler.needs(batch.slots)
            rows = torch.tensor(batch.slots, dtype=torch.int32)
            found.append(sampler.draw(batch.logits.clone(), rows, needs, batch.masks).tokens.tolist())
        assert found[0] == found[1]
