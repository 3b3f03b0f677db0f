"""The operations on a CPU: kernels compiled by numba on torch's own threads, products by oneDNN."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels import rms_norm_cpu, silu_mul_cpu
from gpu_worker.kernels.attention_pass_cpu import AttentionCalls, CpuAttentionPass
from gpu_worker.kernels.interface import AttentionPass, AttentionShape, Linear
from gpu_worker.kernels.launch import KernelCall
from gpu_worker.kernels.linear_cpu import prepacked_linear
from gpu_worker.kernels.rotary import cos_sin
from gpu_worker.kernels.team import Team
from gpu_worker.kernels.thread_policy import ThreadPolicy
from gpu_worker.kv_pool import KVPool

_ELEMENTS: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.uint16}
_ALONE = 8192  # elements up to which starting the team costs more than it saves


class CpuKernels:
    """Kernels for float32 or bfloat16 on the CPU. For one thread at a time: argument arrays are reused."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._element = _ELEMENTS[dtype]
        self._team = Team()
        self._compiled: dict[Any, Any] = {}
        self._threads: ThreadPolicy | None = None

    @contextmanager
    def running(self) -> Generator[None]:
        """Run a pass on as many threads as get a core."""
        if self._threads is None:
            self._threads = ThreadPolicy(torch.get_num_threads())
        elif torch.get_num_threads() != self._threads.count:
            torch.set_num_threads(self._threads.count)
        begin, used = time.perf_counter(), time.process_time()
        yield  # a pass that raises is not counted
        now = time.perf_counter()
        self._threads.observe(now - begin, time.process_time() - used, now)

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return prepacked_linear(weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._norm(x, None, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._norm(x, residual, weight, eps)

    def _norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        tokens, hidden = x.shape
        key = ("norm", hidden, eps, residual is not None)
        call: KernelCall | None = self._compiled.get(key)
        if call is None:
            body = rms_norm_cpu.rms_norm_body(hidden, self._element, residual is not None)
            call = self._compiled[key] = KernelCall(body, rms_norm_cpu.ARGUMENTS, self._team)
            call.set_float(rms_norm_cpu.EPS, eps)
        out = torch.empty_like(x)
        a = call.arguments
        a[rms_norm_cpu.TOKENS] = tokens
        a[rms_norm_cpu.X] = x.data_ptr()
        a[rms_norm_cpu.RESIDUAL] = 0 if residual is None else residual.data_ptr()
        a[rms_norm_cpu.WEIGHT] = weight.data_ptr()
        a[rms_norm_cpu.OUT] = out.data_ptr()
        call.run(-(-tokens // rms_norm_cpu.BLOCK), alone=x.numel() < _ALONE)
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        tokens, inner = gate_up.shape[0], gate_up.shape[1] // 2
        call: KernelCall | None = self._compiled.get(("silu", inner))
        if call is None:
            body = silu_mul_cpu.silu_mul_body(inner, self._element)
            call = self._compiled["silu", inner] = KernelCall(body, silu_mul_cpu.ARGUMENTS, self._team)
        out = gate_up.new_empty(tokens, inner)
        a = call.arguments
        a[silu_mul_cpu.TOKENS] = tokens
        a[silu_mul_cpu.GATE_UP] = gate_up.data_ptr()
        a[silu_mul_cpu.OUT] = out.data_ptr()
        call.run(-(-tokens // silu_mul_cpu.BLOCK), alone=out.numel() < _ALONE)
        return out

    def attention(
        self, shape: AttentionShape, batch: FlatBatch, frequencies: Tensor, scale: float, pool: KVPool
    ) -> AttentionPass:
        calls: AttentionCalls | None = self._compiled.get(shape)
        if calls is None:
            calls = self._compiled[shape] = AttentionCalls(shape, self._element, self._team)
        return CpuAttentionPass(calls, batch, cos_sin(batch.positions, frequencies, scale), pool)

    def attention_plan(self, *_: object) -> None:
        return None
