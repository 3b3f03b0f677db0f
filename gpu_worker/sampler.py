"""From logits to the next token of each row: penalties, bias, truncation, and a reproducible draw.

Every row is treated on its own: what it draws depends on its logits, its parameters, its seed and
the index of the token, and on nothing else in the batch. Knows nothing of the model or of KV.

In this order: repetition, frequency and presence penalties, logit bias, masked stop tokens, the mask of a
grammar, temperature, top-k, top-p of what top-k left, min-p. Truncation is by value: tokens that tie with
the last one kept are kept too, so a set never depends on the order of a sort. (Ties are common:
bfloat16 logits around 20 lie 0.125 apart.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from shared.protocol import Sampling

GREEDY_BELOW = 1e-5  # temperatures under this are greedy
_NEAR = np.float32(-10.0)  # truncation looks among tokens e**10 times less likely than the best before it sorts all
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
def sample(logits: Tensor, rows: Sequence[SamplingRow], mask: Callable[[Tensor], None] | None = None) -> Sampled:
    """Choose one token per row from float32 logits [L, V], which are overwritten.

    ``mask`` sets the logits of tokens that may not be drawn to minus infinity, after penalties and bias.

    A greedy batch is chosen where the logits are; otherwise rows are drawn in host memory, one by one. Measured for 8
    rows of 49,152 and top-p 0.9 on a CPU: 3.9 ms, where topk and cumsum over the batch took 29.
    """
    bad_rows = {n for n, row in enumerate(rows) if _is_adjusted(row) and not _adjust(logits[n], row)}
    if mask is not None:
        mask(logits)
    drawn = [n for n, row in enumerate(rows) if row.sampling.temperature >= GREEDY_BELOW]
    if not drawn:
        best = logits.max(dim=-1)
        tokens = best.indices
        bad_rows.update((~best.values.isfinite()).nonzero().flatten().tolist())
    else:
        tokens = torch.zeros(len(rows), dtype=torch.int64)
        host = logits.cpu().numpy()
        for n, row in enumerate(rows):
            sampling = row.sampling
            token = _draw(host[n], sampling, row.index) if sampling.temperature >= GREEDY_BELOW else _best(host[n])
            if token is None:
                bad_rows.add(n)
            else:
                tokens[n] = token
        tokens = tokens.to(logits.device)
    for n in bad_rows:
        tokens[n] = 0
    return Sampled(tokens, sorted(bad_rows))


def uniform(seed: int, index: int) -> float:
    """The draw for a token index: a multiple of 2**-53 in [0, 1), a function of both arguments alone.

    Two rounds of the SplitMix64 finaliser (Steele, Lea and Flood 2014) over a counter.
    """
    return (_mix(seed_state(seed) + index * _GOLDEN + 1) >> 11) * 2.0**-53


def seed_state(seed: int) -> int:
    """The first of those rounds, which is the same for every index; unsigned 64 bits."""
    return _mix(seed + _GOLDEN)


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


def _best(logits: np.ndarray) -> int | None:
    token = int(logits.argmax())
    return token if np.isfinite(logits[token]) else None


def _draw(logits: np.ndarray, sampling: Sampling, index: int) -> int | None:
    """One row [V]: the inverse of the cumulative distribution, in vocabulary order. None if it isn't finite."""
    top = logits.max()
    if not np.isfinite(top):
        return None
    with np.errstate(over="ignore"):  # far below the top, small temperatures give minus infinity
        scaled = (logits - top) / np.float32(sampling.temperature)
    threshold = _threshold(scaled, sampling)
    ids = None if threshold == -np.inf else np.flatnonzero(scaled >= threshold)
    cumulative = np.exp(scaled if ids is None else scaled[ids]).cumsum(dtype=np.float64)
    place = int(np.searchsorted(cumulative, uniform(sampling.seed, index) * cumulative[-1], side="right"))
    if place == len(cumulative):  # the product was rounded up: the last token that has any weight
        place = int(np.searchsorted(cumulative, cumulative[-1]))
    return place if ids is None else int(ids[place])


def _threshold(scaled: np.ndarray, sampling: Sampling) -> float:
    """The smallest value that truncation leaves of ``scaled`` [V], whose largest is 0."""
    threshold = -np.inf
    within, near = scaled, scaled[scaled >= _NEAR]
    if 0 < sampling.top_k < len(scaled):
        pool = near if len(near) >= sampling.top_k else scaled
        at = len(pool) - sampling.top_k
        threshold = np.partition(pool, at)[at]
        within, near = pool[pool >= threshold], near[near >= threshold]
    if sampling.top_p < 1.0:
        wanted = sampling.top_p * np.exp(within).sum(dtype=np.float64)
        smallest = _nucleus(near, wanted)
        if smallest is None:
            smallest = _nucleus(within, wanted)
        threshold = threshold if smallest is None else max(threshold, smallest)
    if sampling.min_p > 0.0:
        threshold = max(threshold, np.log(np.float32(sampling.min_p)))
    return float(threshold)


def _nucleus(values: np.ndarray, wanted: float) -> float | None:
    """The value down to which the largest ``values`` weigh at least ``wanted``; None if all together do not."""
    descending = np.sort(values)[::-1]
    mass = np.exp(descending).cumsum(dtype=np.float64)
    place = int(np.searchsorted(mass, wanted))
    return float(descending[place]) if place < len(mass) else None
