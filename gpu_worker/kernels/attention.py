"""Causal attention over the paged KV pool in plain torch: the oracle of every other implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.interface import AttentionShape, HeadNorms
from gpu_worker.kernels.rms_norm import rms_norm
from gpu_worker.kernels.rotary import cos_sin, rotate
from gpu_worker.kv_pool import KVPool


def paged_attention(
    q: Tensor, keys: Tensor, values: Tensor, page_table: Tensor, kv_len: int, window: int | None
) -> Tensor:
    """One row: queries [n, heads, D] are the last n of the row's ``kv_len`` tokens. Returns [n, heads, D].

    ``keys`` [pages, kv_heads, D, page_size] and ``values`` [pages, kv_heads, page_size, D] are the pool's of one layer,
    ``page_table`` the row's pages in order. Computed in float32, returned in the dtype of ``q``.
    """
    page_size, length = values.shape[2], q.shape[0]
    pages = page_table[: -(-kv_len // page_size)].long()
    k = keys[pages].permute(1, 0, 3, 2).flatten(1, 2)[:, :kv_len].float()  # [kv_heads, kv_len, D]
    v = values[pages].transpose(0, 1).flatten(1, 2)[:, :kv_len].float()
    grouped = q.float().unflatten(1, (k.shape[0], -1)).permute(1, 2, 0, 3)  # [kv_heads, group, n, D]
    scores = grouped @ k[:, None].transpose(-1, -2) * q.shape[-1] ** -0.5
    key_at = torch.arange(kv_len, device=q.device)
    query_at = torch.arange(kv_len - length, kv_len, device=q.device)[:, None]
    seen = key_at <= query_at
    if window is not None:
        seen &= key_at > query_at - window
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return (weights @ v[:, None]).permute(2, 0, 1, 3).flatten(1, 2).to(q.dtype)


def store_kv(k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
    """Write k and v, [T, kv_heads, D] each, into the pool's tensors of one layer at ``slots`` [T]."""
    page_size = values.shape[2]
    pages, offsets = slots // page_size, slots % page_size
    keys[pages, :, :, offsets] = k
    values[pages, :, offsets] = v


class PlainAttentionPass:
    """An AttentionPass that loops over rows."""

    def __init__(
        self, shape: AttentionShape, batch: FlatBatch, frequencies: Tensor, scale: float, pool: KVPool
    ) -> None:
        self._shape = shape
        self._batch = batch
        self._pool = pool
        self._cos, self._sin = cos_sin(batch.positions, frequencies, scale)
        self._starts: list[int] = batch.starts.tolist()
        self._kv_lens: list[int] = batch.kv_lens.tolist()

    def attend(self, qkv: Tensor, layer: int, window: int | None, norms: HeadNorms | None) -> Tensor:
        heads, kv_heads, dim, eps = self._shape
        q, k, v = qkv.unflatten(-1, (-1, dim)).split((heads, kv_heads, kv_heads), dim=1)
        if norms is not None:
            q, k = rms_norm(q, norms.q, eps), rms_norm(k, norms.k, eps)
        q, k = rotate(q, self._cos, self._sin), rotate(k, self._cos, self._sin)
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        store_kv(k, v, self._batch.slots, keys, values)
        out = torch.empty_like(q)
        for row, kv_len in enumerate(self._kv_lens):
            tokens = slice(self._starts[row], self._starts[row + 1])
            out[tokens] = paged_attention(q[tokens], keys, values, self._batch.page_tables[row], kv_len, window)
        return out.flatten(1)
