"""All operations in plain torch: runs on every device, and is what the faster ones are compared with."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.attention import PlainAttentionPass
from gpu_worker.kernels.interface import AttentionPass, AttentionShape, Linear
from gpu_worker.kernels.rms_norm import add_rms_norm, rms_norm
from gpu_worker.kernels.silu_mul import silu_mul
from gpu_worker.kv_pool import KVPool


class PlainKernels:
    """Kernels of no particular device."""

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return partial(F.linear, weight=weight, bias=bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        return add_rms_norm(x, residual, weight, eps)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return silu_mul(gate_up)

    def attention(
        self, shape: AttentionShape, batch: FlatBatch, frequencies: Tensor, scale: float, pool: KVPool
    ) -> AttentionPass:
        return PlainAttentionPass(shape, batch, frequencies, scale, pool)

    def attention_plan(self, *_: object) -> None:
        return None
