"""Log-probabilities of tokens, from the logits that they were chosen from, or would have been.

Everything is computed where the logits are, and packed into one vector, so that a device's results take one copy.
Tensors and numbers in, columns out: knows nothing of rows, plans or the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.likeliest import likeliest
from shared.protocol import Scores

_BLOCK_BYTES = {"cpu": 2 * 2**20, "cuda": 64 * 2**20}  # of logits looked at together: a cache's worth; few launches


class Want(NamedTuple):
    """Tokens of one request at positions ``first``, ``first`` + 1, …, that consecutive rows of logits score."""

    row: int  # of the batch
    id: int
    first: int
    length: int
    top: int
    ids: tuple[int, ...]


class Scored(NamedTuple):
    """What was wanted, packed: of each token its score, its rank, K likeliest ids, their scores, and what was asked."""

    wants: Sequence[Want]
    top: int  # K: as many as any of them wants
    values: Tensor  # float32 [2 N + 2 N K + asked]; ranks and ids are int32 in the same bytes


def asked_ids(wants: Sequence[Want]) -> list[int]:
    """What :func:`score` needs of them as a tensor."""
    return [token for want in wants for token in want.ids]


def score(logits: Tensor, tokens: Tensor, asked: Tensor, wants: Sequence[Want]) -> Scored:
    """Score ``tokens`` int64 [N] by float32 logits [N, V], which stay as they are; N is what ``wants`` come to.

    ``asked`` int64 [A] are :func:`asked_ids`, on the device of the logits. A token or id that is none scores minus
    infinity, or as token 0 where it is negative.
    """
    vocab_size = logits.shape[1]
    top = min(max(want.top for want in wants), vocab_size)
    tokens = tokens.clamp(0, vocab_size - 1)
    parts: list[tuple[Tensor, ...]] = []
    size = max(1, _BLOCK_BYTES[logits.device.type] // (4 * vocab_size))
    for block, chosen in zip(logits.split(size), tokens.split(size), strict=True):
        best = block.amax(-1, keepdim=True)
        log_sum = (block - best).exp_().sum(-1, keepdim=True).log_()
        own = block.gather(1, chosen[:, None])
        ranks = (block >= own).sum(-1, dtype=torch.int32)
        ids, values = likeliest(block, top)
        parts.append((own - best - log_sum, ranks, ids, values - best - log_sum, best, log_sum))
    scores, ranks, ids, values, best, log_sum = (torch.cat(part) for part in zip(*parts, strict=True))
    columns = [scores.flatten(), _as_floats(ranks), _as_floats(ids.flatten()), values.flatten()]
    at = used = 0
    for want in wants:
        if want.ids:
            own_ids = asked[used : used + len(want.ids)]
            rows = slice(at, at + want.length)
            found = logits[rows].index_select(1, own_ids.clamp(0, vocab_size - 1)) - best[rows] - log_sum[rows]
            columns.append(torch.where(own_ids < vocab_size, found, float("-inf")).flatten())
            used += len(want.ids)
        at += want.length
    return Scored(wants, top, torch.cat(columns))


def unpacked(scored: Scored, keep: Callable[[Want], bool]) -> list[Scores]:
    """Results that have come to host memory as columns of each request that they are kept of."""
    values = scored.values.numpy()
    count, k = sum(want.length for want in scored.wants), scored.top
    chosen, ranks, top_ids, top, asked = np.split(values, np.cumsum([count, count, count * k, count * k]))
    top_ids, top = top_ids.reshape(count, k), top.reshape(count, k)
    found: list[Scores] = []
    at = used = 0
    for want in scored.wants:
        rows = slice(at, at + want.length)
        own = slice(used, used + want.length * len(want.ids))
        at, used = rows.stop, own.stop
        if keep(want):
            found.append(
                Scores(
                    want.id,
                    want.first,
                    chosen[rows].tobytes(),
                    ranks[rows].tobytes(),
                    top_ids[rows, : want.top].tobytes(),
                    top[rows, : want.top].tobytes(),
                    asked[own].tobytes(),
                )
            )
    return found


def _as_floats(numbers: Tensor) -> Tensor:
    """int32 as float32 of the same bytes."""
    return numbers.contiguous().view(torch.float32)
