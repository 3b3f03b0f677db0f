"""Batches for the Triton kernels of the decoder: rows that lie on a tree of pages, in a pool full of NaN."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.interface import AttentionShape
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.rope import Rope
from tests.gpu_worker.forward import Segment, flat_batch

CPU = torch.device("cpu")


class Row(NamedTuple):
    """``cached`` tokens in the pool and ``new`` ones to compute; the first pages are those of the paths it is on."""

    cached: int
    new: int = 1
    path: tuple[tuple[str, int], ...] = ()  # name and pages of each node from the root on


class Case(NamedTuple):
    rows: list[Row]
    page_size: int
    window: int | None = None
    seed: int = 0


class Built(NamedTuple):
    batch: FlatBatch
    pool: KVPool
    qkv: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Decode rows on two levels of shared pages or on none, then rows with more new tokens."""
    page_size = draw(st.sampled_from([1, 2, 5, 16]))
    pages = st.integers(1, 80 // page_size)
    root = ("root", draw(pages))
    nodes = [(), (root,), *((root, (name, draw(pages))) for name in ("left", "right"))]
    rows: list[Row] = []
    for path in draw(st.lists(st.sampled_from(nodes), max_size=6)):
        shared = sum(length for _, length in path) * page_size
        rows.append(Row(shared + draw(st.integers(0, 90)), path=path))
    chunks = draw(st.lists(st.tuples(st.integers(0, 150), st.integers(2, 60)), max_size=2, min_size=0 if rows else 1))
    rows += [Row(cached, new) for cached, new in chunks]
    return Case(rows, page_size, draw(st.none() | st.integers(1, 120)), draw(st.integers(0, 1000)))


def model_config(shape: AttentionShape) -> ModelConfig:
    return ModelConfig(
        architecture="llama", vocab_size=8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim, context_length=4096, rms_norm_eps=1e-5,
        rope=Rope(1e4), tied_embeddings=True, windows=(None,),
    )  # fmt: skip


def build(case: Case, shape: AttentionShape, dtype: torch.dtype, *, keys_by_token: bool = True) -> Built:
    """Pages in random order; NaN wherever a row has no token yet."""
    generator = torch.Generator().manual_seed(case.seed)
    needed = [-(-(row.cached + row.new) // case.page_size) for row in case.rows]
    num_pages = sum(needed) + 2
    order = torch.randperm(num_pages, generator=generator).tolist()
    pool = KVPool(model_config(shape), num_pages, case.page_size, dtype, CPU, keys_by_token=keys_by_token)
    pool.keys[0].fill_(float("nan"))
    pool.values[0].fill_(float("nan"))
    nodes: dict[tuple[str, ...], list[int]] = {}
    segments: list[Segment] = []
    for row, count in zip(case.rows, needed, strict=True):
        pages: list[int] = []
        for depth, (_, length) in enumerate(row.path):
            name = tuple(name for name, _ in row.path[: depth + 1])
            if name not in nodes:
                nodes[name], order = order[:length], order[length:]
            pages += nodes[name]
        own = count - len(pages)
        assert row.cached >= len(pages) * case.page_size, "a row writes no shared page"
        pages, order = pages + order[:own], order[own:]
        at = torch.arange(row.cached)
        where = torch.tensor(pages)[at // case.page_size]
        noise = torch.randn(2, row.cached, shape.num_kv_heads, shape.head_dim, generator=generator).to(dtype)
        pool.keys[0][where, :, :, at % case.page_size] = noise[0]
        pool.values[0][where, :, at % case.page_size] = noise[1]
        segments.append(Segment([0] * row.new, row.cached, pages))
    batch = flat_batch(segments, case.page_size)
    width = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    return Built(batch, pool, torch.randn(len(batch.input_ids), width, generator=generator).to(dtype))
