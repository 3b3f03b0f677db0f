"""One forward pass of attention on the CPU: which tasks there are, and the calls of each layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels import attention_cpu, rotary_cpu
from gpu_worker.kernels.attention_cpu import attention_body, queries_per_task
from gpu_worker.kernels.interface import AttentionShape, HeadNorms
from gpu_worker.kernels.launch import KernelCall
from gpu_worker.kernels.rotary_cpu import rotary_body
from gpu_worker.kernels.team import Team
from gpu_worker.kv_pool import KVPool

_FEW_TOKENS = 16  # whose rotation takes less time than starting the team


class AttentionCalls:
    """The compiled kernels for one shape of model."""

    def __init__(self, shape: AttentionShape, element: type, team: Team) -> None:
        heads, kv_heads, dim, self._eps = shape
        group = heads // kv_heads
        self.shape = shape
        self.block = queries_per_task(group)
        self.decode = KernelCall(attention_body(kv_heads, group, dim, element, 1), attention_cpu.ARGUMENTS, team)
        self.extend = KernelCall(
            attention_body(kv_heads, group, dim, element, self.block), attention_cpu.ARGUMENTS, team
        )
        self._rotary: dict[bool, KernelCall] = {}
        self._element = element
        self._team = team

    def rotary(self, has_norms: bool) -> KernelCall:
        """The kernel that rotates and stores, with or without head norms."""
        call = self._rotary.get(has_norms)
        if call is None:
            body = rotary_body(
                self.shape.num_heads, self.shape.num_kv_heads, self.shape.head_dim, self._element, has_norms
            )
            call = self._rotary[has_norms] = KernelCall(body, rotary_cpu.ARGUMENTS, self._team)
            call.set_float(rotary_cpu.EPS, self._eps)
        return call


class CpuAttentionPass:
    """An AttentionPass whose decode rows and chunks run in one kernel call each."""

    def __init__(self, calls: AttentionCalls, batch: FlatBatch, cos_sin: tuple[Tensor, Tensor], pool: KVPool) -> None:
        self._calls = calls
        self._pool = pool
        self._tokens = batch.input_ids.shape[0]
        self._cos, self._sin = cos_sin[0].contiguous(), cos_sin[1].contiguous()
        self._slots = batch.slots.contiguous()
        self._positions = batch.positions.contiguous()
        self._tables = batch.page_tables.contiguous()
        if int(self._slots.max()) >= pool.capacity or int(self._tables.max()) >= pool.num_pages:
            raise IndexError("the batch names pages beyond the pool: compiled kernels would write outside it")
        decode, extend = attention_tasks(batch.starts.numpy(), calls.block)
        self._work = [(call, tasks) for call, tasks in ((calls.decode, decode), (calls.extend, extend)) if len(tasks)]
        for call, tasks in self._work:
            a = call.arguments
            a[attention_cpu.TOKENS] = self._tokens
            a[attention_cpu.TASKS] = tasks.ctypes.data
            a[attention_cpu.NUM_TASKS] = len(tasks)
            a[attention_cpu.POSITIONS] = self._positions.data_ptr()
            a[attention_cpu.TABLES] = self._tables.data_ptr()
            a[attention_cpu.TABLE_WIDTH] = self._tables.shape[1]
            a[attention_cpu.PAGE_SIZE] = pool.page_size

    def attend(self, qkv: Tensor, layer: int, window: int | None, norms: HeadNorms | None) -> Tensor:
        heads, kv_heads, dim, _ = self._calls.shape
        keys, values = self._pool.keys[layer].data_ptr(), self._pool.values[layer].data_ptr()
        self._rotate_and_store(qkv, keys, values, norms)
        out = torch.empty(self._tokens, heads * dim, dtype=qkv.dtype)
        for call, tasks in self._work:
            a = call.arguments
            a[attention_cpu.QKV] = qkv.data_ptr()
            a[attention_cpu.OUT] = out.data_ptr()
            a[attention_cpu.KEYS] = keys
            a[attention_cpu.VALUES] = values
            a[attention_cpu.WINDOW] = window or 0
            call.run(len(tasks) * kv_heads)
        return out

    def _rotate_and_store(self, qkv: Tensor, keys: int, values: int, norms: HeadNorms | None) -> None:
        call = self._calls.rotary(norms is not None)
        a = call.arguments
        a[rotary_cpu.TOKENS] = self._tokens
        a[rotary_cpu.QKV] = qkv.data_ptr()
        a[rotary_cpu.COS] = self._cos.data_ptr()
        a[rotary_cpu.SIN] = self._sin.data_ptr()
        a[rotary_cpu.SLOTS] = self._slots.data_ptr()
        a[rotary_cpu.KEYS] = keys
        a[rotary_cpu.VALUES] = values
        a[rotary_cpu.PAGE_SIZE] = self._pool.page_size
        if norms is not None:
            a[rotary_cpu.Q_NORM] = norms.q.data_ptr()
            a[rotary_cpu.K_NORM] = norms.k.data_ptr()
        call.run(-(-self._tokens // rotary_cpu.BLOCK), alone=self._tokens <= _FEW_TOKENS)


def attention_tasks(starts: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Tasks of rows with one token, and of chunks cut into at most ``block`` tokens.

    ``starts`` is int32 [R + 1] as in FlatBatch. Each task is (first flat token, tokens, row), int32 [n, 3]; those of
    chunks come from the end, because the last see most keys and are best not left for last.
    """
    lengths = np.diff(starts)
    rows = np.arange(len(lengths), dtype=np.int32)
    single = lengths == 1
    decode = np.stack((starts[:-1][single], lengths[single], rows[single]), axis=1)
    pieces = np.where(single, 0, -(-lengths // block))
    row = np.repeat(rows, pieces)
    piece = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = starts[:-1][row] + piece * block
    count = np.minimum(block, starts[1:][row] - first)
    extend = np.stack((first, count, row), axis=1)[::-1]
    return np.ascontiguousarray(decode, dtype=np.int32), np.ascontiguousarray(extend, dtype=np.int32)
