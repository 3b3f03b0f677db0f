"""One forward pass of attention on a GPU: the launches of each layer. Nothing here waits for the device."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels import attention_decode_triton, attention_extend_triton, rotary_triton
from gpu_worker.kernels.attention_plan import DeviceWork, Plan
from gpu_worker.kernels.interface import AttentionShape, HeadNorms
from gpu_worker.kernels.tiling import Tiling, padded
from gpu_worker.kv_pool import KVPool

_ANGLES = 1024  # of one program of cos_sin_table
_HEADS = 32  # of one program of rotate_and_store
_PARTIALS = 16  # that merge_partials reads at once


class TritonAttentionPass:
    """An AttentionPass of a planned batch. Launches depend on the plan's sizes only, never on its contents."""

    def __init__(
        self,
        shape: AttentionShape,
        tiling: Tiling,
        batch: FlatBatch,
        frequencies: Tensor,
        scale: float,
        pool: KVPool,
        plan: Plan,
    ) -> None:
        heads, kv_heads, dim, self._eps = shape
        self._tiling = tiling
        self._batch = batch
        self._pool = pool
        self._plan = plan
        self._tokens = batch.positions.shape[0]
        self._scale = math.log2(math.e) * dim**-0.5
        self._heads, self._dim = heads, dim
        self._table_width = batch.page_tables.stride(0)
        self._blocks: dict[str, Any] = {
            "GROUP": tiling.group,
            "KV_HEADS": kv_heads,
            "D": dim,
            "D_PAD": max(16, padded(dim)),
            "PAGE": pool.page_size,
            "KEYS_BY_TOKEN": pool.keys_by_token,
        }
        self._rotary_blocks: dict[str, Any] = {
            "HEADS": heads,
            "KV_HEADS": kv_heads,
            "D": dim,
            "HALF_PAD": padded(dim // 2),
            "PAGE": pool.page_size,
            "KEYS_BY_TOKEN": pool.keys_by_token,
            "BLOCK": _HEADS,
        }
        self._rotary_size = self._tokens * (heads + 2 * kv_heads)
        angles = self._tokens * (dim // 2)
        self._cos, self._sin = torch.empty(2, self._tokens, dim // 2, dtype=torch.float32, device=frequencies.device)
        launch: Any = rotary_triton.cos_sin_table
        launch[(-(-angles // _ANGLES),)](
            self._cos, self._sin, batch.positions, frequencies, scale, angles, HALF=dim // 2, BLOCK=_ANGLES
        )

    def attend(self, qkv: Tensor, layer: int, window: int | None, norms: HeadNorms | None) -> Tensor:
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        self._rotate_and_store(qkv, keys, values, norms)
        out = qkv.new_empty(self._tokens, self._heads * self._dim)
        work = self._plan.work(window)
        if work.sizes.tiles:
            self._attend_tiles(qkv, out, keys, values, work, window)
        if work.sizes.items:
            self._attend_items(qkv, out, keys, values, work, window)
        return out

    def _rotate_and_store(self, qkv: Tensor, keys: Tensor, values: Tensor, norms: HeadNorms | None) -> None:
        launch: Any = rotary_triton.rotate_and_store
        launch[(-(-self._rotary_size // _HEADS),)](
            qkv,
            self._cos,
            self._sin,
            self._batch.slots,
            keys,
            values,
            qkv if norms is None else norms.q,
            qkv if norms is None else norms.k,
            self._eps,
            self._rotary_size,
            NORMED=norms is not None,
            **self._rotary_blocks,
        )

    def _attend_tiles(
        self, qkv: Tensor, out: Tensor, keys: Tensor, values: Tensor, work: DeviceWork, window: int | None
    ) -> None:
        blocks = self._tiling.extend
        launch: Any = attention_extend_triton.attend_tiles
        launch[self._blocks["KV_HEADS"], work.sizes.tiles](
            qkv,
            out,
            work.tiles,
            self._batch.page_tables,
            keys,
            values,
            self._table_width,
            window or 0,
            self._scale,
            M=blocks.rows,
            N=blocks.keys,
            WINDOWED=window is not None,
            num_warps=blocks.num_warps,
            num_stages=blocks.num_stages,
            **self._blocks,
        )

    def _attend_items(
        self, qkv: Tensor, out: Tensor, keys: Tensor, values: Tensor, work: DeviceWork, window: int | None
    ) -> None:
        blocks, scratch = self._tiling.decode, self._plan.scratch(window)
        launch: Any = attention_decode_triton.attend_items
        launch[self._blocks["KV_HEADS"], work.programs](
            qkv,
            out,
            *scratch,
            self._batch.positions,
            work.header,
            work.items,
            work.members,
            self._batch.page_tables,
            keys,
            values,
            self._table_width,
            window or 0,
            self._scale,
            M=blocks.rows,
            M_OWN=self._tiling.own_rows,
            N=blocks.keys,
            WINDOWED=window is not None,
            num_warps=blocks.num_warps,
            num_stages=blocks.num_stages,
            **self._blocks,
        )
        if not work.sizes.merged:
            return
        launch = attention_decode_triton.merge_partials
        launch[self._heads, work.sizes.merged](
            out,
            *scratch,
            work.header,
            work.merged,
            work.offsets,
            work.partials,
            HEADS=self._heads,
            D=self._dim,
            D_PAD=self._blocks["D_PAD"],
            BLOCK=_PARTIALS,
        )
