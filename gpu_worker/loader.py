"""From a model on disk to a decoder on a device.

Reads safetensors and GGUF, converts to the chosen dtype, fuses and prepacks layer by layer, so that
the peak is one copy of the weights and one layer. Knows nothing of names on the hub or of requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.gguf_weights import GGUFWeights
from gpu_worker.kernels.interface import HeadNorms, Kernels, Linear
from gpu_worker.kernels.selection import compiles_for, kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.decoder import Decoder, Layer
from gpu_worker.models.rope import inverse_frequencies
from gpu_worker.safetensors_weights import SafetensorsWeights
from gpu_worker.weights import Progress, Weights, checked
from shared.config import Quantization
from shared.errors import UserError
from shared.model_files import ModelFiles


def open_weights(files: ModelFiles) -> Weights:
    """Read configuration and index; no weights yet. Raises UserError."""
    return GGUFWeights(files.path) if files.format == "gguf" else SafetensorsWeights(files.path)


class AnyDecoder(Protocol):
    """A model ready to run, on whatever device."""

    config: ModelConfig
    dtype: torch.dtype  # of keys and values
    device: torch.device

    @property
    def precision(self) -> str:
        """What weights and KV are stored in, for people."""
        ...

    def forward(self, batch: FlatBatch, pool: KVPool) -> Tensor:
        """Compute all T tokens, writing their KV; float32 logits [L, vocab_size] of ``batch.logit_indices``."""
        ...


def load_decoder(
    files: ModelFiles,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    quantization: Quantization = "none",
) -> AnyDecoder:
    """Load all weights. Kernels compile in the first forward pass, and are kept under ``cache_dir`` if given.

    Raises UserError for models that are broken or not supported.
    """
    device = torch.device(device)
    if compiles_for(device, dtype, cache_dir):
        from gpu_worker.packed_loader import build_packed  # numba is not everywhere

        return build_packed(open_weights(files), dtype, quantization, progress)
    if quantization not in ("auto", "none"):
        raise UserError(f"--quantization {quantization} needs the compiled CPU kernels: leave it out on {device.type}")
    return build_decoder(open_weights(files), kernels_for(device, dtype), device, dtype, progress)


def build_decoder(
    weights: Weights, kernels: Kernels, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> Decoder:
    """Convert, fuse and prepack ``weights`` for ``kernels``."""
    with torch.inference_mode():
        return _Builder(weights, kernels, device, dtype).decoder(progress or (lambda _: None))


class _Builder:
    """One model on its way into memory. Every tensor's shape is checked against the configuration."""

    def __init__(self, weights: Weights, kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
        self._weights = weights
        self._config = weights.config
        self._kernels = kernels
        self._device = device
        self._dtype = dtype

    def decoder(self, report: Progress) -> Decoder:
        config = self._config
        embedding = self._load("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        layers: list[Layer] = []
        for index in range(config.num_layers):
            report(index / (config.num_layers + 1))
            layers.append(self._layer(index))
        report(config.num_layers / (config.num_layers + 1))
        decoder = Decoder(
            config,
            self._kernels,
            embedding=embedding,
            layers=tuple(layers),
            final_norm=self._load("model.norm.weight", config.hidden_size),
            lm_head=self._lm_head(embedding),
            frequencies=self._frequencies(),
        )
        report(1.0)
        return decoder

    def _layer(self, index: int) -> Layer:
        config, prefix = self._config, f"model.layers.{index}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        hidden, inner = config.hidden_size, config.intermediate_size
        norms = None
        if config.qk_norm:
            norms = HeadNorms(
                self._load(f"{attention}.q_norm.weight", config.head_dim),
                self._load(f"{attention}.k_norm.weight", config.head_dim),
            )
        qkv = {"q_proj": config.q_size, "k_proj": config.kv_size, "v_proj": config.kv_size}
        return Layer(
            input_norm=self._load(f"{prefix}.input_layernorm.weight", hidden),
            qkv=self._fused(attention, qkv, hidden),
            head_norms=norms,
            out=self._fused(attention, {"o_proj": hidden}, config.q_size),
            post_norm=self._load(f"{prefix}.post_attention_layernorm.weight", hidden),
            gate_up=self._fused(mlp, {"gate_proj": inner, "up_proj": inner}, hidden),
            down=self._fused(mlp, {"down_proj": hidden}, inner),
            window=config.windows[index],
        )

    def _fused(self, prefix: str, parts: dict[str, int], inputs: int) -> Linear:
        """One linear layer for several that share their input; ``parts`` are names and output sizes."""
        weight = torch.cat([self._load(f"{prefix}.{part}.weight", size, inputs) for part, size in parts.items()])
        if not any(f"{prefix}.{part}.bias" in self._weights for part in parts):
            return self._kernels.linear(weight, None)
        bias = torch.cat([self._load(f"{prefix}.{part}.bias", size) for part, size in parts.items()])
        return self._kernels.linear(weight, bias)

    def _lm_head(self, embedding: Tensor) -> Linear:
        if self._config.tied_embeddings:
            return self._kernels.linear(embedding, None)
        return self._kernels.linear(self._load("lm_head.weight", *embedding.shape), None)

    def _frequencies(self) -> Tensor:
        frequencies = inverse_frequencies(self._config.rope, self._config.head_dim)
        divisors = self._weights.frequency_divisors()
        return (frequencies if divisors is None else frequencies / divisors).to(self._device)

    def _load(self, name: str, *shape: int) -> Tensor:
        return checked(name, self._weights.tensor(name), *shape).to(device=self._device, dtype=self._dtype)
