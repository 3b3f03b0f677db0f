"""Weights quantised in groups of 32, as GGUF's older formats have them: a scale and a minimum for each group."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

GROUP = 32  # inputs that share a scale


class Grouped(NamedTuple):
    """Quantised weights [N, K]: ``scale * value + minimum``, groups of 32 along K."""

    values: Tensor  # uint8 [N, K]
    scales: Tensor  # float16 [N, K / 32]
    minima: Tensor  # float16 [N, K / 32]
    bits: int  # 4 or 8

    def dequantized(self) -> Tensor:
        """float32 [N, K]."""
        grouped = self.values.unflatten(1, (-1, GROUP)).float()
        return (grouped * self.scales.float()[..., None] + self.minima.float()[..., None]).flatten(1)
