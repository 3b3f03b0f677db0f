"""Batches of rows for the device sampler, and the check that it draws what gpu_worker.sampler draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.kernels.sampling import MaskRows, SamplingKernels
from gpu_worker.sampler import sample, uniform
from shared.protocol import Sampling

CPU = torch.device("cpu")
CONTEXT = 60


class Here(NamedTuple):
    """The kernels to test, and the device they are for."""

    kernels: SamplingKernels
    device: torch.device = CPU


class Row(NamedTuple):
    """A SamplingRow."""

    sampling: Sampling
    token_ids: np.ndarray
    prompt_len: int

    @property
    def index(self) -> int:
        return len(self.token_ids) - self.prompt_len


class Batch(NamedTuple):
    """Some rows, their slots in a sampler, their logits and masks."""

    slots: list[int]
    rows: list[Row]
    logits: Tensor
    masks: MaskRows | None


def random_sampling(rng: np.random.Generator, vocab: int) -> Sampling:
    def tokens(most: int) -> list[int]:
        return rng.choice(vocab, min(vocab, int(rng.integers(0, most + 1))), replace=False).tolist()

    return Sampling(
        max_tokens=50,
        temperature=float(rng.choice([0.0, 0.3, 1.0, 1.0, 2.5])),
        top_k=int(rng.choice([0, 0, 1, 3, 40, 150, 5000])),
        top_p=float(rng.choice([1.0, 1.0, 0.999, 0.95, 0.5, 0.05])),
        min_p=float(rng.choice([0.0, 0.0, 0.02, 0.3, 1.0])),
        repetition_penalty=float(rng.choice([1.0, 1.0, 1.3, 0.7])),
        frequency_penalty=float(rng.choice([0.0, 0.0, 0.5, 0.1, -1.0])),
        presence_penalty=float(rng.choice([0.0, 0.0, 1.5, -0.3])),
        seed=int(rng.integers(0, 2**64, dtype=np.uint64)),
        logit_bias=tuple((token, float(rng.choice([-100.0, 2.5, 0.7]))) for token in tokens(4)),
        min_tokens=int(rng.choice([0, 0, 6])),
        stop_token_ids=tuple(tokens(3)),
    )


def random_row(rng: np.random.Generator, vocab: int, sampling: Sampling | None = None) -> Row:
    prompt, output = rng.integers(1, 20), rng.integers(0, 20)
    favourites = rng.integers(0, vocab, 5)  # tokens that come again and again
    count = int(prompt + output)
    ids = np.where(rng.random(count) < 0.5, rng.choice(favourites, count), rng.integers(0, vocab, count))
    return Row(sampling or random_sampling(rng, vocab), ids.astype(np.int32), int(prompt))


def random_batch(rng: np.random.Generator, vocab: int, count: int, max_rows: int) -> Batch:
    """Every kind of row at once; some logits on a coarse grid, so that there are ties, some flat, some steep."""
    spread = rng.choice([0.5, 2.0, 4.0], (count, 1))
    logits = torch.from_numpy((rng.standard_normal((count, vocab)) * spread).astype(np.float32))
    if rng.random() < 0.3:
        logits = (logits * 8).round() / 8
    masks = None
    if rng.random() < 0.5:
        words = rng.integers(-(2**31), 2**31, (6, -(-vocab // 32))).astype(np.int32)
        masks = MaskRows(torch.from_numpy(words), torch.from_numpy(rng.integers(-1, 6, count).astype(np.int32)))
    slots = rng.permutation(max_rows)[:count].tolist()
    return Batch(slots, [random_row(rng, vocab) for _ in slots], logits, masks)


def make_sampler(here: Here, vocab: int, max_rows: int) -> DeviceSampler:
    return DeviceSampler(here.kernels, vocab, max_rows, CONTEXT, here.device)


def admit(sampler: DeviceSampler, batch: Batch) -> None:
    for slot, row in zip(batch.slots, batch.rows, strict=True):
        sampler.admit(slot, row.sampling, row.token_ids, row.prompt_len)


def draw(sampler: DeviceSampler, batch: Batch) -> list[int | None]:
    """Tokens of a batch, None for rows without one; padding here and there."""
    device = sampler.lengths.device
    rows = torch.tensor([-1, *batch.slots, -1], dtype=torch.int32)
    logits = torch.cat((torch.full_like(batch.logits[:1], torch.nan), batch.logits, torch.zeros_like(batch.logits[:1])))
    masks = batch.masks
    if masks is not None:
        ends = torch.tensor([0], dtype=torch.int32)
        masks = MaskRows(masks.pool.to(device), torch.cat((ends, masks.rows, ends)).to(device))
    drawn = sampler.draw(logits.to(device), rows.to(device), sampler.needs(rows.tolist()), masks)
    assert drawn.tokens.dtype == torch.int64
    assert drawn.ok.dtype == torch.bool
    assert not drawn.ok[0]
    assert not drawn.ok[-1]
    assert not drawn.tokens[~drawn.ok].any()
    found = zip(drawn.tokens.tolist(), drawn.ok.tolist(), strict=True)
    return [token if ok else None for token, ok in found][1:-1]


def apply_masks(logits: Tensor, masks: MaskRows) -> None:
    for values, row in zip(logits, masks.rows.tolist(), strict=True):
        if row >= 0:
            bits = np.unpackbits(masks.pool[row].numpy().view(np.uint8), bitorder="little")[: len(values)]
            values[torch.from_numpy(bits == 0)] = float("-inf")


def expected(batch: Batch) -> tuple[list[int | None], Tensor]:
    """What the host's sampler draws, and the logits that it draws from."""
    logits = batch.logits.float().clone()

    def mask(adjusted: Tensor) -> None:
        if batch.masks is not None:
            apply_masks(adjusted, batch.masks)

    tokens, bad_rows = sample(logits, batch.rows, mask)
    return [None if n in bad_rows else token for n, token in enumerate(tokens.tolist())], logits


def check(found: list[int | None], batch: Batch) -> int:
    """Equal to what is expected, but for draws on a border. Returns how many were on one."""
    tokens, adjusted = expected(batch)
    borders = 0
    for token, other, row, values in zip(found, tokens, batch.rows, adjusted, strict=True):
        if token == other:
            continue
        borders += 1
        assert token is not None
        assert other is not None
        assert on_border(values.numpy().astype(np.float64), row, token, other), (token, other, row)
    return borders


def on_border(values: np.ndarray, row: Row, token: int, other: int) -> bool:
    """Would rounding alone make it one token or the other?"""
    sampling = row.sampling
    scaled = np.exp((values - values.max()) / sampling.temperature)
    order = np.sort(scaled)[::-1]
    least = order[sampling.top_k - 1] if 0 < sampling.top_k < len(order) else 0.0
    mass = np.where(scaled >= least, scaled, 0)
    least_of: list[float] = []
    for top_p in (sampling.top_p - 1e-6, sampling.top_p + 1e-6):
        cumulative = order.cumsum()
        place = np.searchsorted(cumulative, top_p * mass.sum()) if sampling.top_p < 1 else len(order) - 1
        least_of.append(max(least, order[min(place, len(order) - 1)], sampling.min_p * (1 - 1e-6)))
    target = uniform(sampling.seed, row.index)
    for smallest in least_of:
        kept = np.where(scaled >= smallest, scaled, 0).cumsum() / scaled[scaled >= smallest].sum()
        first, second = np.searchsorted(kept, (target - 1e-6, target + 1e-6), side="right")
        if first <= token <= second or first <= other <= second:
            return True
    return False
