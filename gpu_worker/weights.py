"""What a loader asks of a model on disk, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from gpu_worker.grouped import Grouped
from gpu_worker.models.config import ModelConfig
from shared.errors import UserError

Progress = Callable[[float], None]
"""Called with the fraction done, from 0 to 1."""


class Weights(Protocol):
    """Tensors under the names that Hugging Face gives them."""

    config: ModelConfig

    def __contains__(self, name: str) -> bool: ...

    def tensor(self, name: str) -> Tensor: ...

    def grouped(self, name: str) -> Grouped | None:
        """The weight as it is stored, if in groups of 32; None where it is stored in another way."""
        ...

    def bits(self, name: str) -> int:
        """Bits of a value of this weight as it is stored: 4, 8 or more."""
        ...

    def frequency_divisors(self) -> Tensor | None: ...


def checked(name: str, weight: Tensor, *shape: int) -> Tensor:
    """The weight, if it has the shape that the configuration asks for. Raises UserError."""
    if weight.shape != shape:
        raise UserError(f"{name} has the shape {tuple(weight.shape)} where the configuration asks for {shape}")
    return weight
