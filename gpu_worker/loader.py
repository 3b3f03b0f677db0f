"""From a model on disk to a decoder on a device.

Reads safetensors and GGUF, converts to the chosen dtype, fuses and prepacks layer by layer, so that
the peak is one copy of the weights and one layer. Knows nothing of names on the hub or of requests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gpu_worker.gguf_weights import GGUFWeights
from gpu_worker.kernels.interface import HeadNorms, Kernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.decoder import Decoder, Layer
from gpu_worker.models.rope import inverse_frequencies
from gpu_worker.safetensors_weights import SafetensorsWeights
from shared.model_files import ModelFiles

Progress = Callable[[float], None]
"""Called with the fraction done, from 0 to 1."""


class Weights(Protocol):
    """Tensors under the names that Hugging Face gives them."""

    config: ModelConfig

    def __contains__(self, name: str) -> bool: ...

    def tensor(self, name: str) -> Tensor: ...

    def frequency_divisors(self) -> Tensor | None: ...


def open_weights(files: ModelFiles) -> Weights:
    """Read configuration and index; no weights yet. Raises UserError."""
    return GGUFWeights(files.path) if files.format == "gguf" else SafetensorsWeights(files.path)


def load_decoder(
    files: ModelFiles,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
) -> Decoder:
    """Load all weights. Kernels compile in the first forward pass, and are kept under ``cache_dir`` if given.

    Raises UserError for models that are broken or not supported.
    """
    device = torch.device(device)
    return build_decoder(open_weights(files), kernels_for(device, dtype, cache_dir), device, dtype, progress)


def build_decoder(
    weights: Weights, kernels: Kernels, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> Decoder:
    """Convert, fuse and prepack ``weights`` for ``kernels``."""
    config = weights.config
    report = progress or (lambda _: None)

    def load(name: str) -> Tensor:
        return weights.tensor(name).to(device=device, dtype=dtype)

    def fused(prefix: str, *parts: str) -> Callable[[Tensor], Tensor]:
        names = [f"{prefix}.{part}" for part in parts]
        weight = torch.cat([load(f"{name}.weight") for name in names])
        biased = f"{names[0]}.bias" in weights
        bias = torch.cat([load(f"{name}.bias") for name in names]) if biased else None
        return kernels.linear(weight, bias)

    with torch.inference_mode():
        embedding = load("model.embed_tokens.weight")
        layers: list[Layer] = []
        for index in range(config.num_layers):
            report(index / (config.num_layers + 1))
            prefix = f"model.layers.{index}"
            attention = f"{prefix}.self_attn"
            norms = (
                HeadNorms(load(f"{attention}.q_norm.weight"), load(f"{attention}.k_norm.weight"))
                if config.qk_norm
                else None
            )
            layers.append(
                Layer(
                    input_norm=load(f"{prefix}.input_layernorm.weight"),
                    qkv=fused(attention, "q_proj", "k_proj", "v_proj"),
                    head_norms=norms,
                    out=fused(attention, "o_proj"),
                    post_norm=load(f"{prefix}.post_attention_layernorm.weight"),
                    gate_up=fused(f"{prefix}.mlp", "gate_proj", "up_proj"),
                    down=fused(f"{prefix}.mlp", "down_proj"),
                    window=config.windows[index],
                )
            )
        frequencies = inverse_frequencies(config.rope, config.head_dim)
        divisors = weights.frequency_divisors()
        if divisors is not None:
            frequencies = frequencies / divisors
        report(config.num_layers / (config.num_layers + 1))
        decoder = Decoder(
            config,
            kernels,
            embedding=embedding,
            layers=tuple(layers),
            final_norm=load("model.norm.weight"),
            lm_head=kernels.linear(embedding if config.tied_embeddings else load("lm_head.weight"), None),
            frequencies=frequencies.to(device),
        )
    report(1.0)
    return decoder
