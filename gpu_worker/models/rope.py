"""Rotary position embedding: inverse frequencies and the table of cosines and sines.

Formulas follow transformers' modeling_rope_utils, which in turn follow RoFormer (arXiv 2104.09864),
position interpolation, YaRN (arXiv 2309.00071) and Llama 3.1. Knows nothing of models or kernels.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import torch
from torch import Tensor


class RopeKind(enum.StrEnum):
    """How frequencies are stretched beyond the length a model was first trained for."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


class Rope(NamedTuple):
    """Parameters of one model's rotary embedding."""

    theta: float
    kind: RopeKind = RopeKind.DEFAULT
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float = 1.0  # scales cosines and sines
    truncate: bool = True  # yarn: whole-numbered ramp borders


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """float32 [head_dim / 2], radians per position."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float) / head_dim
    plain = 1.0 / (rope.theta**exponents)
    match rope.kind:
        case RopeKind.DEFAULT:
            return plain
        case RopeKind.LINEAR:
            return plain / rope.factor
        case RopeKind.LLAMA3:
            return _llama3(rope, plain)
        case RopeKind.YARN:
            return _yarn(rope, plain, head_dim)


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """YaRN's temperature as a factor of cosines and sines."""

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if mscale and mscale_all_dim:
        return scale(mscale) / scale(mscale_all_dim)
    return scale(1.0)


def cos_sin_table(frequencies: Tensor, attention_factor: float, positions: int) -> Tensor:
    """float32 [positions, head_dim]: cosines of a position in the first half, sines in the second."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos() * attention_factor, angles.sin() * attention_factor), dim=-1)


def _llama3(rope: Rope, plain: Tensor) -> Tensor:
    wavelengths = 2 * math.pi / plain
    longest, shortest = rope.original_context / rope.low_freq_factor, rope.original_context / rope.high_freq_factor
    smooth = (rope.original_context / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    between = (1 - smooth) * plain / rope.factor + smooth * plain
    stretched = torch.where(wavelengths > longest, plain / rope.factor, between)
    return torch.where(wavelengths < shortest, plain, stretched)


def _yarn(rope: Rope, plain: Tensor, head_dim: int) -> Tensor:
    def dimension(rotations: float) -> float:
        ratio = rope.original_context / (rotations * 2 * math.pi)
        return head_dim * math.log(ratio) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # as the original does, to keep the ramp finite
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain / rope.factor * ramp + plain * (1 - ramp)
