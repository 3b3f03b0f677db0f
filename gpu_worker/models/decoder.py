"""The decoder-only transformer of the Llama family: Llama, Mistral, Qwen2, Qwen3, SmolLM.

Runs a flat batch over a paged KV pool. Knows nothing of requests, sampling or where weights come from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch, Pass
from gpu_worker.kernels.attention_plan import AttentionPlan
from gpu_worker.kernels.interface import AttentionShape, Kernels, Linear
from gpu_worker.kernels.rms_norm import rms_norm
from gpu_worker.kv_pool import KVPool
from gpu_worker.layers import Layer
from gpu_worker.models.config import ModelConfig


class _Last(NamedTuple):
    """What comes out of the last layer, [T, hidden size] each; its hidden states are their sum."""

    x: Tensor
    residual: Tensor


class Decoder:
    """A model ready to run on one device."""

    def __init__(
        self,
        config: ModelConfig,
        kernels: Kernels,
        *,
        embedding: Tensor,
        layers: tuple[Layer[Linear], ...],
        final_norm: Tensor,
        lm_head: Linear,
        frequencies: Tensor,
    ) -> None:
        self.config = config
        self.dtype = embedding.dtype
        self.device = embedding.device
        self._kernels = kernels
        self._shape = AttentionShape(config.num_heads, config.num_kv_heads, config.head_dim, config.rms_norm_eps)
        self._embedding = embedding
        self._layers = layers
        self._final_norm = final_norm
        self._lm_head = lm_head
        self._frequencies = frequencies

    @property
    def precision(self) -> str:
        """What weights and KV are stored in, for people."""
        return str(self.dtype).removeprefix("torch.")

    def attention_plan(self, page_size: int, rows: int) -> AttentionPlan | None:
        """A plan for batches of up to ``rows`` tokens in short rows; None where a pass can only plan for itself."""
        return self._kernels.attention_plan(self._shape, self.config.windows, page_size, rows)

    @torch.inference_mode()
    def forward(self, batch: FlatBatch, pool: KVPool) -> Tensor:
        """Compute all T tokens, writing their KV; float32 logits [L, vocab_size] of ``batch.logit_indices``."""
        return self._logits(self._last(batch, pool), batch.logit_indices)

    @torch.inference_mode()
    def forward_with_states(self, batch: FlatBatch, pool: KVPool, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M]."""
        last = self._last(batch, pool)
        states = (last.x[tokens] + last.residual[tokens]).float()
        states = rms_norm(states, self._final_norm.float(), self.config.rms_norm_eps)
        return Pass(self._logits(last, batch.logit_indices), states)

    def _last(self, batch: FlatBatch, pool: KVPool) -> _Last:
        kernels, eps = self._kernels, self.config.rms_norm_eps
        attention = kernels.attention(self._shape, batch, self._frequencies, self.config.rope.attention_factor, pool)
        residual = self._embedding[batch.input_ids]
        x = kernels.rms_norm(residual, self._layers[0].input_norm, eps)
        for index, layer in enumerate(self._layers):
            if index:
                x = kernels.add_rms_norm(x, residual, layer.input_norm, eps)
            x = layer.out(attention.attend(layer.qkv(x), index, layer.window, layer.head_norms))
            x = kernels.add_rms_norm(x, residual, layer.post_norm, eps)
            x = layer.down(kernels.silu_mul(layer.gate_up(x)))
        return _Last(x, residual)

    def _logits(self, last: _Last, wanted: Tensor) -> Tensor:
        states = last.x[wanted] + last.residual[wanted]
        return self._lm_head(self._kernels.rms_norm(states, self._final_norm, self.config.rms_norm_eps)).float()
