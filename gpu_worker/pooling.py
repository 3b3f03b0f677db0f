"""What a prompt is to the model: hidden states of its tokens, pooled while its chunks are computed.

Sums are kept where the states are, in float64: a mean does not depend on how a prompt was cut. Knows nothing of plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.protocol import Pooling, Vector


class PoolSpan(NamedTuple):
    """Tokens of one prompt whose states were computed in a step: the next ``length`` of them."""

    row: int  # of the batch
    id: int
    length: int
    pooling: Pooling
    is_first: bool  # the prompt begins with these
    prompt_len: int
    is_last: bool  # and ends with them


class Pooled(NamedTuple):
    """Vectors of prompts that are complete."""

    spans: Sequence[PoolSpan]
    values: Tensor  # float32 [len(spans), hidden size]


class Pools:
    """Sums of the prompts under way, by row."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def take(self, states: Tensor, spans: Sequence[PoolSpan]) -> Pooled | None:
        """Add states, float32 [M, hidden size], of all spans in their order; the vectors of those that end here."""
        done: list[PoolSpan] = []
        vectors: list[Tensor] = []
        at = 0
        for span in spans:
            own = states[at : at + span.length]
            at += span.length
            if span.pooling is Pooling.LAST:
                vector = own[-1]
            else:
                total = own.sum(0, dtype=torch.float64)
                if not span.is_first:
                    total += self._sums[span.row]
                self._sums[span.row] = total
                vector = (total / span.prompt_len).float()
            if span.is_last:
                done.append(span)
                vectors.append(vector)
                self._sums.pop(span.row, None)
        return Pooled(done, torch.stack(vectors)) if done else None


def vectors_of(pooled: Pooled, keep: Sequence[bool]) -> list[Vector]:
    """Those that are kept, once they have come to host memory."""
    rows = zip(pooled.spans, pooled.values.numpy(), keep, strict=True)
    return [Vector(span.id, values.tobytes()) for span, values, kept in rows if kept]
