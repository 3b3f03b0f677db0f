"""From logits to the next token of each row: penalties, bias, truncation, and a reproducible draw.

Every row is treated on its own: what it draws depends on its logits, its parameters, its seed and
the index of the token, and on nothing else in the batch. Knows nothing of the model or of KV.

In this order: repetition, frequency and presence penalties, logit bias, masked stop tokens,
temperature, top-k, top-p of what top-k left, min-p. Truncation is by value: tokens that tie with
the last one kept are kept too, so a set never depends on the order of a sort. (Ties are common:
bfloat16 logits around 20 lie 0.125 apart.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from shared.protocol import Sampling

GREEDY_BELOW = 1e-5  # temperatures under this are greedy
_CANDIDATES = 128  # the nucleus is looked for among so many tokens before everything is sorted
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class SamplingRow(Protocol):
    """What the sampler needs to know of one row."""

    @property
    def sampling(self) -> Sampling: ...

    @property
    def index(self) -> int:
        """Index of the token to draw; 0 is the first generated one."""
        ...

    @property
    def token_ids(self) -> np.ndarray:
        """Prompt and output so far, int32."""
        ...

    @property
    def prompt_len(self) -> int:
        """Where in ``token_ids`` the output starts."""
        ...


class Sampled(NamedTuple):
    """The chosen tokens, and which rows have none because their logits are not numbers or all masked."""

    tokens: Tensor  # int64 [L], 0 in bad rows
    bad_rows: list[int]


@torch.inference_mode()
def sample(logits: Tensor, rows: Sequence[SamplingRow]) -> Sampled:
    """Choose one token per row from float32 logits [L, V], which are overwritten."""
    invalid: list[int] = []
    for number, row in enumerate(rows):
        if _is_adjusted(row) and not _adjust(logits[number], row):
            invalid.append(number)
    best = logits.max(dim=-1)
    tokens = best.indices
    drawn = [number for number, row in enumerate(rows) if row.sampling.temperature >= GREEDY_BELOW]
    if drawn:
        some = len(drawn) < len(rows)
        picked = _draw(logits[drawn] if some else logits, [rows[number] for number in drawn])
        tokens[drawn] = picked
    finite = best.values.isfinite()
    if bool(finite.all()) and not invalid:
        return Sampled(tokens, [])
    bad_rows = sorted({*invalid, *(~finite).nonzero().flatten().tolist()})
    tokens[bad_rows] = 0
    return Sampled(tokens, bad_rows)


def uniform(seed: int, index: int) -> float:
    """The draw for a token index: a multiple of 2**-53 in [0, 1), a function of both arguments alone.

    Two rounds of the SplitMix64 finaliser (Steele, Lea and Flood 2014) over a counter.
    """
    return (_mix(_mix(seed + _GOLDEN) + index * _GOLDEN + 1) >> 11) * 2.0**-53


def _mix(state: int) -> int:
    state &= _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def _is_adjusted(row: SamplingRow) -> bool:
    sampling = row.sampling
    return bool(
        sampling.logit_bias
        or sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty
        or sampling.presence_penalty
        or row.index < sampling.min_tokens
    )


def _adjust(logits: Tensor, row: SamplingRow) -> bool:
    """Apply penalties, bias and masks to one row [V] in place. False where a biased token does not exist."""
    sampling, device, vocab = row.sampling, logits.device, logits.shape[0]
    if sampling.repetition_penalty != 1.0:
        seen = torch.from_numpy(np.unique(row.token_ids)).to(device)
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        ids, counts = np.unique(row.token_ids[row.prompt_len :], return_counts=True)
        amounts = torch.from_numpy((counts * sampling.frequency_penalty + sampling.presence_penalty).astype(np.float32))
        logits[torch.from_numpy(ids).to(device)] -= amounts.to(device)
    if sampling.logit_bias:
        ids = [token for token, _ in sampling.logit_bias]
        if min(ids) < 0 or max(ids) >= vocab:
            return False
        amounts = torch.tensor([bias for _, bias in sampling.logit_bias], dtype=torch.float32, device=device)
        logits.index_add_(0, torch.tensor(ids, device=device), amounts)
    if row.index < sampling.min_tokens:
        logits[[token for token in sampling.stop_token_ids if 0 <= token < vocab]] = float("-inf")
    return True


def _draw(logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Inverse of the cumulative distribution in vocabulary order: int64 [L]. Rows that are not finite give anything."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    temperature = column([row.sampling.temperature for row in rows]).float()
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    truncated = [n for n, row in enumerate(rows) if _is_truncated(row.sampling, logits.shape[1])]
    if truncated:
        some = len(truncated) < len(rows)
        within = scaled[truncated] if some else scaled
        threshold = _thresholds(within, [rows[n].sampling for n in truncated])
        within = within.masked_fill(within < threshold, float("-inf"))
        if some:
            scaled[truncated] = within
        else:
            scaled = within
    cumulative = scaled.exp_().cumsum(dim=-1, dtype=torch.float64)
    draws = column([uniform(row.sampling.seed, row.index) for row in rows])
    picked = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    return picked[:, 0].clamp_(max=logits.shape[1] - 1)


def _is_truncated(sampling: Sampling, vocab: int) -> bool:
    return 0 < sampling.top_k < vocab or sampling.top_p < 1.0 or sampling.min_p > 0.0


def _thresholds(scaled: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The smallest scaled logit that each row keeps, [L, 1]. ``scaled`` has its maximum at 0."""
    device, vocab = scaled.device, scaled.shape[1]
    min_p = torch.tensor([s.min_p for s in samplings], dtype=torch.float32, device=device)
    threshold = min_p.log()[:, None]  # min_p 0 is minus infinity
    largest_k = max(s.top_k for s in samplings if s.top_k < vocab)
    if largest_k <= 0 and all(s.top_p >= 1.0 for s in samplings):
        return threshold
    count = min(vocab, max(largest_k, _CANDIDATES))
    by_k_p, complete = _among(scaled, scaled.topk(count).values, samplings)
    if not bool(complete.all()):
        rest = (~complete).nonzero().flatten().tolist()
        ordered = scaled[rest].sort(dim=-1, descending=True).values
        by_k_p[rest], _ = _among(scaled[rest], ordered, [samplings[n] for n in rest])
    return torch.maximum(threshold, by_k_p)


def _among(scaled: Tensor, candidates: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """Thresholds of top-k and top-p, [L, 1], found among the largest values in descending order.

    Also says, [L], of which rows the candidates hold the whole set.
    """
    device, vocab, count = scaled.device, scaled.shape[1], candidates.shape[1]
    top_k = torch.tensor([s.top_k if 0 < s.top_k < vocab else vocab for s in samplings], device=device)[:, None]
    top_p = torch.tensor([s.top_p for s in samplings], dtype=torch.float64, device=device)[:, None]
    kth = candidates.gather(1, (top_k - 1).clamp(max=count - 1))
    kth = kth.masked_fill(top_k >= vocab, float("-inf"))
    total = scaled.masked_fill(scaled < kth, float("-inf")).exp_().cumsum(dim=-1, dtype=torch.float64)[:, -1:]
    # ties of the k-th that lie beyond the candidates count in the total, as they are kept
    mass = candidates.masked_fill(candidates < kth, float("-inf")).exp().cumsum(dim=-1, dtype=torch.float64)
    wanted = top_p * total
    last = (mass < wanted).sum(dim=-1, keepdim=True)
    enough = (last < count) | (top_p >= 1.0)
    nucleus = candidates.gather(1, last.clamp(max=count - 1)).masked_fill(top_p >= 1.0, float("-inf"))
    return torch.maximum(kth, nucleus), (enough | (count == vocab))[:, 0]
