"""Flat batches of made-up sequences on a device: decode rows with or without common pages, and chunks of a prompt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.sharing import find_sharing, nothing_shared

PAGE_SIZE = 16


def pages_for(rows: int, context: int, shared: int = 0) -> int:
    """Pages that a batch of :func:`decode_batch` lies on."""
    return shared // PAGE_SIZE + rows * -(-(context - shared) // PAGE_SIZE)


def filled_pool(config: ModelConfig, num_pages: int, dtype: torch.dtype, device: torch.device) -> KVPool:
    """A pool of random keys and values."""
    pool = KVPool(config, num_pages, PAGE_SIZE, dtype, device)
    for layer in (*pool.keys, *pool.values):
        layer.normal_()
    return pool


def decode_batch(
    rows: int, context: int, config: ModelConfig, device: torch.device, *, shared: int = 0, noticed: bool = True
) -> FlatBatch:
    """Rows of one new token each, the last of ``context``. The first ``shared`` tokens, whole pages, are common to all.

    ``noticed``: attention is told of the common pages, as the engine tells it; else every row reads them for itself.
    Pages are shuffled, as they are once a server has run for a while.
    """
    assert shared % PAGE_SIZE == 0
    pages = np.random.default_rng(rows * context).permutation(pages_for(rows, context, shared)).astype(np.int32)
    common = np.broadcast_to(pages[: shared // PAGE_SIZE], (rows, shared // PAGE_SIZE))
    tables = np.concatenate((common, pages[shared // PAGE_SIZE :].reshape(rows, -1)), axis=1)
    kv_lens = np.full(rows, context, np.int32)
    sharing = find_sharing(tables, kv_lens, PAGE_SIZE) if noticed else nothing_shared(rows)
    positions = np.full((rows, 1), context - 1)
    return _flat(positions, tables, config, device)._replace(num_decodes=rows, sharing=sharing)


def prefill_batch(new: int, before: int, config: ModelConfig, device: torch.device) -> FlatBatch:
    """``new`` prompt tokens of one row after ``before`` others; logits of the last are wanted."""
    tables = np.random.default_rng(new).permutation(-(-(before + new) // PAGE_SIZE)).astype(np.int32)[None]
    return _flat(np.arange(before, before + new)[None], tables, config, device)


def _flat(
    positions: NDArray[np.int64], tables: NDArray[np.int32], config: ModelConfig, device: torch.device
) -> FlatBatch:
    """``positions`` [rows, new] of every row's new tokens, ``tables`` [rows, pages]; as chunks, nothing shared."""
    rows, new = positions.shape
    slots = np.take_along_axis(tables, positions // PAGE_SIZE, axis=1).astype(np.int64) * PAGE_SIZE
    slots += positions % PAGE_SIZE
    ids = np.random.default_rng(new).integers(3, config.vocab_size, rows * new)
    starts = np.arange(0, rows * new + 1, new, dtype=np.int32)
    kv_lens = (positions[:, -1] + 1).astype(np.int32)

    def tensor(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return FlatBatch(
        input_ids=tensor(ids),
        positions=tensor(positions.reshape(-1)),
        slots=tensor(slots.reshape(-1)),
        starts=tensor(starts),
        kv_lens=tensor(kv_lens),
        page_tables=tensor(tables),
        num_decodes=0,
        logit_indices=tensor(np.arange(new - 1, rows * new, new)),
        max_kv_len=int(kv_lens.max()),
        max_new=new,
        sharing=nothing_shared(0),
        host_starts=starts,
        host_kv_lens=kv_lens,
    )
