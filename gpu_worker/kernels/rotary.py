"""Rotary position embedding of queries and keys, half-split as Hugging Face stores them."""

from __future__ import annotations

import torch
from torch import Tensor


def cos_sin(positions: Tensor, frequencies: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [T, D / 2], of each token's position."""
    angles = positions.to(torch.float32)[:, None] * frequencies
    return angles.cos() * scale, angles.sin() * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x`` [T, heads, D]; computed in float32, returned in the dtype of ``x``."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
