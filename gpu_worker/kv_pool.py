"""The paged KV cache: memory for keys and values of all layers, addressed by page and offset.

Knows nothing of who owns a page; the scheduler decides that.

Keys of a page are stored dimension-major, so that a kernel computes the scores of a whole page with
tokens in the lanes of a vector and without adding up lanes; values are stored token by token.
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

    The memory is uninitialised and committed by the operating system as pages are first written.
    Slot s of a token is page s // page_size, offset s % page_size. Every page is ordinary, 0 too.
    """

    def __init__(
        self, config: ModelConfig, num_pages: int, page_size: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"a KV pool of {num_pages} pages of {page_size} tokens holds nothing")
        self.num_pages = num_pages
        self.page_size = page_size
        heads, dim = config.num_kv_heads, config.head_dim
        shape_k = (config.num_layers, num_pages, heads, dim, page_size)
        shape_v = (config.num_layers, num_pages, heads, page_size, dim)
        self.keys: tuple[Tensor, ...] = torch.empty(shape_k, dtype=dtype, device=device).unbind(0)
        self.values: tuple[Tensor, ...] = torch.empty(shape_v, dtype=dtype, device=device).unbind(0)

    @property
    def capacity(self) -> int:
        """Tokens the pool holds."""
        return self.num_pages * self.page_size
