"""Random weights of a given shape, made on the device tensor by tensor: for measuring speed without a model's files.

Knows nothing of how a decoder arranges them.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from gpu_worker.models.config import ModelConfig

_SEED = 20240418


class DummyWeights:
    """Matrices of normal values with variance 1 / inputs, so that activations and logits stay of order one; norms are
    ones, biases zeros.

    Each tensor is drawn from its name and the seed: the same on every run on one kind of device, in whatever order.
    """

    def __init__(
        self, config: ModelConfig, device: torch.device | str, dtype: torch.dtype, *, seed: int = _SEED
    ) -> None:
        self.config = config
        self._device = device
        self._dtype = dtype
        self._seed = seed

    def __contains__(self, name: str) -> bool:
        """Biases are there where the architecture always has them: a configuration does not tell of others."""
        if name.endswith(".bias"):
            return self.config.architecture == "qwen2" and name.split(".")[-2] in ("q_proj", "k_proj", "v_proj")
        return True

    def tensor(self, name: str) -> Tensor:
        """The weight with this Hugging Face name, on the device and in its dtype."""
        shape = self._shape(name)
        made = torch.empty(shape, dtype=self._dtype, device=self._device)
        if len(shape) == 1:
            return made.zero_() if name.endswith(".bias") else made.fill_(1)
        generator = torch.Generator(self._device).manual_seed(self._seed ^ zlib.crc32(name.encode()))
        return made.normal_(0, shape[1] ** -0.5, generator=generator)

    def grouped(self, name: str) -> None:
        """Nothing is stored in groups: a loader that wants fewer bits rounds these values."""

    def bits(self, name: str) -> int:  # noqa: ARG002
        """Of each value."""
        return 8 * self._dtype.itemsize

    def frequency_divisors(self) -> Tensor | None:
        """A configuration says everything about the rotary embedding: nothing to divide by."""
        return None

    def _shape(self, name: str) -> tuple[int, ...]:
        config = self.config
        hidden, inner = config.hidden_size, config.intermediate_size
        part, kind = name.split(".")[-2:]
        matrices = {
            "embed_tokens": (config.vocab_size, hidden),
            "lm_head": (config.vocab_size, hidden),
            "q_proj": (config.q_size, hidden),
            "k_proj": (config.kv_size, hidden),
            "v_proj": (config.kv_size, hidden),
            "o_proj": (hidden, config.q_size),
            "gate_proj": (inner, hidden),
            "up_proj": (inner, hidden),
            "down_proj": (hidden, inner),
        }
        if part in matrices:
            return matrices[part] if kind == "weight" else matrices[part][:1]
        return (config.head_dim,) if part in ("q_norm", "k_norm") else (hidden,)
