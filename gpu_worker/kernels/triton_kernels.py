"""The operations on a GPU: Triton kernels, and the products of torch's own library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels import rms_norm_triton, silu_mul_triton
from gpu_worker.kernels.attention_pass_triton import TritonAttentionPass
from gpu_worker.kernels.attention_plan import AttentionPlan, PassPlan, ScratchPool
from gpu_worker.kernels.interface import AttentionPass, AttentionShape, Linear
from gpu_worker.kernels.tiling import Tiling, padded, target_of, tiling_for
from gpu_worker.kv_pool import KVPool

_INNER = 1024  # elements of one program of silu_mul


class _ModelAttention(NamedTuple):
    """What passes of one shape of model have in common."""

    tiling: Tiling
    scratch: ScratchPool


class TritonKernels:
    """Kernels of one GPU for one stream: partial results of attention share memory.

    Also runs on a CPU in Triton's interpreter, which is how it is tested.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._target = target_of(device)
        self._attention: dict[AttentionShape, _ModelAttention] = {}

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return partial(F.linear, weight=weight, bias=bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._norm(x, None, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._norm(x, residual, weight, eps)

    def _norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        tokens, hidden = x.shape
        block = padded(hidden)
        launch: Any = rms_norm_triton.rms_norm
        if tokens:
            launch[(tokens,)](
                x,
                x if residual is None else residual,
                weight,
                out,
                eps,
                H=hidden,
                BLOCK=block,
                ADDING=residual is not None,
                num_warps=min(max(block // 512, 1), 16),
            )
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        tokens, inner = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(tokens, inner)
        launch: Any = silu_mul_triton.silu_mul
        if tokens:
            launch[tokens, -(-inner // _INNER)](gate_up, out, INNER=inner, BLOCK=_INNER)
        return out

    def attention(
        self, shape: AttentionShape, batch: FlatBatch, frequencies: Tensor, scale: float, pool: KVPool
    ) -> AttentionPass:
        tiling, scratch = self._of(shape)
        plan = batch.plan if batch.plan is not None else PassPlan(batch, pool.page_size, tiling, scratch)
        return TritonAttentionPass(shape, tiling, batch, frequencies, scale, pool, plan)

    def attention_plan(
        self, shape: AttentionShape, windows: Sequence[int | None], page_size: int, rows: int, /
    ) -> AttentionPlan:
        tiling, scratch = self._of(shape)
        return AttentionPlan(rows, windows, page_size, tiling, scratch)

    def tiling(self, shape: AttentionShape) -> Tiling:
        """Tiles of attention for one shape of model."""
        return tiling_for(shape, self._dtype, self._target)

    def _of(self, shape: AttentionShape) -> _ModelAttention:
        found = self._attention.get(shape)
        if found is None:
            tiling = self.tiling(shape)
            scratch = ScratchPool(shape.num_heads, shape.head_dim, self._device)
            found = self._attention[shape] = _ModelAttention(tiling, scratch)
        return found
