"""From a model on disk to a decoder on a device.

Reads safetensors and GGUF layer by layer: a tensor goes to the device as it is stored (of safetensors straight from the
mapped file; GGUF's are expanded one by one), is converted there and takes its place in the fused layer. The peak is one
copy of the weights and one layer, all of it on the device. Knows nothing of names on the hub or of requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import structlog
import torch
from torch import Tensor

from gpu_worker.dummy_weights import DummyWeights
from gpu_worker.flat_batch import FlatBatch, Pass
from gpu_worker.gguf_weights import GGUFWeights
from gpu_worker.kernels.attention_plan import AttentionPlan
from gpu_worker.kernels.interface import Kernels, Linear
from gpu_worker.kernels.selection import compiles_for, kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.layers import read_layers, rotary_frequencies
from gpu_worker.models.config import ModelConfig, read_huggingface_config
from gpu_worker.models.decoder import Decoder
from gpu_worker.safetensors_weights import SafetensorsWeights
from gpu_worker.weights import Progress, Weights, checked
from shared.config import Quantization
from shared.errors import UserError
from shared.model_files import ModelFiles


def open_weights(files: ModelFiles, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Weights:
    """Read configuration and index; no weights yet. Random ones will be made on ``device`` in ``dtype``.

    Raises UserError.
    """
    match files.format:
        case "gguf":
            return GGUFWeights(files.path)
        case "huggingface":
            return SafetensorsWeights(files.path)
        case "dummy":
            return DummyWeights(read_huggingface_config(files.path), device, dtype)


_EVEN = 2
"""The compiled kernels take the inputs of a weight two at a time."""

log = structlog.get_logger("weights")


class AnyDecoder(Protocol):
    """A model ready to run, on whatever device."""

    config: ModelConfig
    dtype: torch.dtype  # of keys and values
    device: torch.device

    @property
    def precision(self) -> str:
        """What weights and KV are stored in, for people."""
        ...

    def attention_plan(self, page_size: int, rows: int, /) -> AttentionPlan | None:
        """A plan for batches of up to ``rows`` tokens in short rows; None where a pass can only plan for itself."""
        ...

    def forward(self, batch: FlatBatch, pool: KVPool) -> Tensor:
        """Compute all T tokens, writing their KV; float32 logits [L, vocab_size] of ``batch.logit_indices``."""
        ...

    def forward_with_states(self, batch: FlatBatch, pool: KVPool, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M]."""
        ...


def load_decoder(
    files: ModelFiles,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    quantization: Quantization = "none",
    *,
    alone: bool = False,
) -> AnyDecoder:
    """Load all weights, or make random ones.

    ``alone``: a row's logits shall not depend on the rows beside it, to the last bit, where kernels can do that.

    Kernels compile in the first forward pass, and are kept under ``cache_dir`` if given.
    Raises UserError for models that are broken or not supported.
    """
    device = torch.device(device)
    weights = open_weights(files, device, dtype)
    unpacked = unpackable(weights.config)
    if compiles_for(device, dtype, cache_dir):
        if not unpacked:
            from gpu_worker.packed_loader import build_packed  # numba is not everywhere

            return build_packed(weights, dtype, quantization, progress, alone=alone)
        log.warning("the compiled kernels hold even sizes only, plain torch is several times slower", size=unpacked)
    if quantization not in ("auto", "none"):
        where = f"for a model with {unpacked}, which is odd" if unpacked else f"on {device.type}"
        raise UserError(f"--quantization {quantization} needs the compiled CPU kernels: leave it out {where}")
    return build_decoder(weights, kernels_for(device, dtype), device, dtype, progress)


def unpackable(config: ModelConfig) -> str:
    """The size of a model, by name, that the compiled CPU kernels cannot hold; empty where they hold all."""
    sizes = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
    return ", ".join(f"{name} {size}" for name, size in sizes.items() if size % _EVEN)


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
        decoder = Decoder(
            config,
            self._kernels,
            embedding=embedding,
            layers=read_layers(config, self, report),
            final_norm=self.vector("model.norm.weight", config.hidden_size),
            lm_head=self._lm_head(embedding),
            frequencies=rotary_frequencies(self._weights).to(self._device),
        )
        report(1.0)
        return decoder

    def vector(self, name: str, size: int) -> Tensor:
        return self._load(name, size)

    def linear(self, prefix: str, parts: dict[str, int], inputs: int) -> Linear:
        weight = self._joined({f"{prefix}.{part}.weight": size for part, size in parts.items()}, inputs)
        if not any(f"{prefix}.{part}.bias" in self._weights for part in parts):
            return self._kernels.linear(weight, None)
        return self._kernels.linear(weight, self._joined({f"{prefix}.{part}.bias": n for part, n in parts.items()}))

    def gated(self, prefix: str, gate: str, up: str, outputs: int, inputs: int) -> Linear:
        return self.linear(prefix, {gate: outputs, up: outputs}, inputs)

    def _joined(self, parts: dict[str, int], *inner: int) -> Tensor:
        """Tensors of one inner shape, by name and first dimension, one below the other."""
        if len(parts) == 1:
            return self._load(*next(iter(parts.items())), *inner)
        joined = torch.empty(sum(parts.values()), *inner, dtype=self._dtype, device=self._device)
        for rows, (name, size) in zip(joined.split(list(parts.values())), parts.items(), strict=True):
            rows.copy_(self._stored(name, size, *inner))
        return joined

    def _lm_head(self, embedding: Tensor) -> Linear:
        if self._config.tied_embeddings:
            return self._kernels.linear(embedding, None)
        return self._kernels.linear(self._load("lm_head.weight", *embedding.shape), None)

    def _load(self, name: str, *shape: int) -> Tensor:
        return self._stored(name, *shape).to(dtype=self._dtype)

    def _stored(self, name: str, *shape: int) -> Tensor:
        """On the device, in the dtype of the file: a copy that also converts would convert on the host."""
        return checked(name, self._weights.tensor(name), *shape).to(self._device)
