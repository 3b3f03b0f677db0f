"""The sampling kernels in Triton's interpreter: run by test_sampling_triton.py in a process of its own, which sets
TRITON_INTERPRET before anything imports triton.
"""

# pyright: reportPrivateImportUsage=false
# ruff: noqa: N803

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from gpu_worker.kernels import sampling_kernels_triton
from gpu_worker.kernels.sampling_kernels_triton import TritonSamplingKernels, shape_of
from gpu_worker.kernels.sampling_layout_triton import part_of, uniform_bits
from gpu_worker.sampler import seed_state, uniform
from tests.gpu_worker import sampling_cases as cases
from tests.gpu_worker.sampling_cases import Here
from tests.gpu_worker.sampling_checks import every_check


@every_check
@np.errstate(over="ignore")
def test_device_sampler(check: Callable[[Here], None]) -> None:
    check(Here(TritonSamplingKernels()))


def test_a_row_draws_the_same_however_it_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = cases.random_batch(np.random.default_rng(20), 5000, 4, 4)
    found: list[list[int | None]] = []
    for splits in (1, 3, 64):
        monkeypatch.setattr(sampling_kernels_triton, "_MOST_SPLITS", splits)
        sampler = cases.make_sampler(Here(TritonSamplingKernels()), 5000, 4)
        cases.admit(sampler, batch)
        found.append(cases.draw(sampler, batch._replace(logits=batch.logits.clone())))
    assert found[0] == found[1] == found[2]
    cases.check(found[0], batch)


@triton.jit
def _draw_bits(seeds, indices, totals, bits, parts, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    value = uniform_bits(tl.load(seeds + place), tl.load(indices + place))
    tl.store(bits + place, value)
    tl.store(parts + place, part_of(value, tl.load(totals + place)))


def test_uniform_draws_and_parts_are_the_same_bit_for_bit() -> None:
    rng = np.random.default_rng(2)
    seeds = [0, 1, 2**63, 2**64 - 1, *rng.integers(0, 2**64, 252, dtype=np.uint64).tolist()]
    indices = [0, 1, 2**20, 77, *rng.integers(0, 2**20, 252).tolist()]
    totals = [2**62 - 1, 1, 2**43, *rng.integers(0, 2**62, 253).tolist()]
    states = torch.from_numpy(np.array([seed_state(seed) for seed in seeds], np.uint64).view(np.int64))
    bits, parts = torch.zeros(2, 256, dtype=torch.int64)
    _draw_bits[1,](states, torch.tensor(indices, dtype=torch.int32), torch.tensor(totals), bits, parts, SIZE=256)
    assert [value * 2.0**-53 for value in bits.tolist()] == [
        uniform(*each) for each in zip(seeds, indices, strict=True)
    ]
    assert parts.tolist() == [value * total >> 53 for value, total in zip(bits.tolist(), totals, strict=True)]


def test_rows_are_cut_into_powers_of_two_that_cover_them() -> None:
    for count in (1, 2, 7, 64, 300, 2000):
        for size in (1, 1024, 1025, 49152, 151_936, 262_144):
            splits, chunk, capacity = shape_of(count, size)
            assert splits & (splits - 1) == 0
            assert splits * chunk >= size
            assert chunk % 1024 == 0
            assert (chunk - 1024) * splits < size
            assert 0 < capacity <= chunk
