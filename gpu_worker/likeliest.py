"""The likeliest tokens of each row, in an order that is the same everywhere: of equals the lower id comes first.

Torch says nothing of the order of equals, which are common: bfloat16 logits around 20 lie 0.125 apart. Knows nothing of
what logits are for.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_STRETCH = 64  # logits that one number stands for while a row is searched on a host


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Ids, int32, and values of the ``count`` largest of each row of float32 [N, V], the largest first."""
    if not count:
        empty = logits[:, :0]
        return empty.int(), empty
    if logits.device.type == "cpu":
        ids = _searched(logits.numpy(), count)
        return torch.from_numpy(ids.astype(np.int32)), logits.gather(1, torch.from_numpy(ids))
    ids = _compared(logits, count)
    return ids.int(), logits.gather(1, ids)


def _compared(logits: Tensor, count: int) -> Tensor:
    """On a device that is not waited for: value and id are compared together, as one number of 64 bits.

    That is a float's bits, made to grow with its value, above the id's complement.
    """
    bits = (logits + 0.0).view(torch.int32)  # there is no -0.0 in a sum
    growing = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    complement = _LOW - torch.arange(logits.shape[1], device=logits.device)
    best = ((growing << 32) | complement).topk(count).values
    return _LOW - (best & _LOW)


def _searched(logits: np.ndarray, count: int) -> np.ndarray:
    """On a host. As many stretches of a row as there are wanted have a value at least as large as the last one wanted.

    So only stretches whose largest is no less than that can hold any. Measured for 8 rows of 49,152 and 20 wanted:
    0.5 ms, where comparing as above took 21.
    """
    rows, size = logits.shape
    stretches = size // _STRETCH
    if stretches < 2 * count:
        return np.argsort(-logits, axis=1, kind="stable")[:, :count]
    whole = logits[:, : stretches * _STRETCH].reshape(rows, stretches, _STRETCH)
    largest = whole.max(axis=2)
    least = np.partition(largest, stretches - count, axis=1)[:, stretches - count]
    found = np.empty((rows, count), np.int64)
    for row in range(rows):
        places = np.flatnonzero(largest[row] >= least[row])[:, None] * _STRETCH + np.arange(_STRETCH)
        ids = np.append(places.ravel(), np.arange(stretches * _STRETCH, size))
        values = logits[row, ids]
        ids = ids[values >= least[row]]
        found[row] = ids[np.argsort(-logits[row, ids], kind="stable")[:count]]
    return found
