"""The paged KV cache: memory for keys and values of all layers, addressed by page and offset.

Knows nothing of who owns a page; the scheduler decides that.

Values are stored token by token. Keys of a page are stored dimension-major on a CPU, so that a kernel computes the
scores of a whole page with tokens in the lanes of a vector and without adding up lanes; on a GPU token by token as
values are, so that a few lanes read a token's key at once. Either way they are seen as [.., head_dim, page_size].
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_worker.models.config import ModelConfig


def bytes_per_page(config: ModelConfig, page_size: int, dtype: torch.dtype) -> int:
    """Memory of one page: keys and values of ``page_size`` tokens in every layer."""
    return 2 * config.num_layers * config.kv_size * page_size * dtype.itemsize


class KVPool:
    """Keys [layer][page, kv_head, head_dim, page_size] and values [layer][page, kv_head, page_size, head_dim].

    ``keys_by_token`` says how keys lie in memory; if set, they are a transposed view. The memory is uninitialised and
    committed by the operating system as pages are first written.
    Slot s of a token is page s // page_size, offset s % page_size. Every page is ordinary, 0 too.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        keys_by_token: bool | None = None,  # None: as the device's kernels like it
    ) -> None:
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"a KV pool of {num_pages} pages of {page_size} tokens holds nothing")
        self.num_pages = num_pages
        self.page_size = page_size
        self.keys_by_token = torch.device(device).type != "cpu" if keys_by_token is None else keys_by_token
        heads, dim = config.num_kv_heads, config.head_dim
        by_dimension = (config.num_layers, num_pages, heads, dim, page_size)
        by_token = (config.num_layers, num_pages, heads, page_size, dim)
        keys = torch.empty(by_token if self.keys_by_token else by_dimension, dtype=dtype, device=device)
        self.keys: tuple[Tensor, ...] = (keys.transpose(-1, -2) if self.keys_by_token else keys).unbind(0)
        self.values: tuple[Tensor, ...] = torch.empty(by_token, dtype=dtype, device=device).unbind(0)

    @property
    def capacity(self) -> int:
        """Tokens the pool holds."""
        return self.num_pages * self.page_size
