"""Masks and draws on the device, as Triton compiles them, against plain torch and the host's sampler."""

from __future__ import annotations

import numpy as np
import torch

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.grammar.vocabulary import Vocabulary, make_vocabulary
from gpu_worker.kernels.automata import Automata
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.masks import FREE
from gpu_worker.kernels.sampling import MaskRows
from gpu_worker.kernels.selection import mask_kernels_for, sampling_kernels_for
from tests.gpu_worker import sampling_cases
from tests.gpu_worker.kernels.mask_cases import random_tables

CPU = torch.device("cpu")
ALPHABET = np.arange(97, 101)


def vocabulary(rng: np.random.Generator) -> Vocabulary:
    spelling = [bytes(rng.choice(ALPHABET, rng.integers(0, 9)).tolist()) for _ in range(50_000)]
    return make_vocabulary(spelling, [], 50_021)


def test_masks_equal_the_plain_ones(cuda: torch.device) -> None:
    rng = np.random.default_rng(5)
    vocab = vocabulary(rng)
    tables = [random_tables(rng, ALPHABET) for _ in range(3)]
    states = rng.integers(0, 2, 6).tolist()
    found: list[tuple[torch.Tensor, ...]] = []
    logits = torch.randn(64, vocab.size, generator=torch.Generator().manual_seed(0))
    rows = torch.from_numpy(rng.integers(FREE, 6, 64).astype(np.int32))
    tokens = torch.from_numpy(rng.integers(0, vocab.size, 64))
    which = torch.from_numpy(rng.integers(FREE, 3, 64).astype(np.int32))
    begins = torch.from_numpy(rng.integers(0, 2, 64).astype(np.int32))
    for device, kernels in ((CPU, PlainMaskKernels(vocab, CPU)), (cuda, mask_kernels_for(cuda, vocab))):
        pool = torch.full((8, vocab.words), -1, dtype=torch.int32, device=device)
        kernels.build(pool, [3, 0, 2, 5, 1, 4], states, tables[0])
        masked = logits.to(device)
        kernels.apply(masked, pool, rows.to(device))
        automata = Automata(device)
        for each in tables:
            automata.add(each)
        after = kernels.advance(begins.to(device), tokens.to(device), automata.arrays, which.to(device))
        found.append((pool.cpu(), masked.cpu(), after.cpu()))
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert torch.equal(ours, theirs)


def test_draws_are_the_hosts(cuda: torch.device) -> None:
    """Every kind of row at once; a few draws may lie on a border that the rounding of an exponential decides."""
    borders = draws = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        vocab, max_rows = int(rng.choice([50, 3_001, 49_152])), 24
        batch = sampling_cases.random_batch(rng, vocab, int(rng.integers(1, 20)), max_rows)
        kernels = sampling_kernels_for(cuda)
        sampler = DeviceSampler(kernels, vocab, max_rows, sampling_cases.CONTEXT, cuda)
        sampling_cases.admit(sampler, batch)
        masks = batch.masks
        if masks is not None:
            masks = MaskRows(masks.pool.to(cuda), masks.rows.to(cuda))
        slots = torch.tensor(batch.slots, dtype=torch.int32, device=cuda)
        drawn = sampler.draw(batch.logits.to(cuda), slots, sampler.needs(batch.slots), masks)
        tokens = [token if ok else None for token, ok in zip(drawn.tokens.tolist(), drawn.ok.tolist(), strict=True)]
        borders += sampling_cases.check(tokens, batch)
        draws += len(tokens)
    assert borders <= max(2, draws // 50)
