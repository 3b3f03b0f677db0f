"""The compiled CPU kernels compute what the plain ones do, for any shape, page table and mix of rows."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.cpu import CpuKernels
from gpu_worker.kernels.interface import AttentionShape, HeadNorms, Kernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.rope import Rope, inverse_frequencies
from tests.gpu_worker.forward import Segment, flat_batch

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
DTYPES = (torch.float32, torch.bfloat16)
CPU = {dtype: CpuKernels(dtype) for dtype in DTYPES}
PLAIN = PlainKernels()
SMALL = AttentionShape(4, 2, 16, 1e-5)  # heads, KV heads, head_dim, eps
CASES = (
    (SMALL, torch.float32),
    (SMALL, torch.bfloat16),
    (AttentionShape(9, 3, 64, 1e-5), torch.float32),
    (AttentionShape(9, 3, 64, 1e-5), torch.bfloat16),
    (AttentionShape(7, 1, 64, 1e-6), torch.bfloat16),
    (AttentionShape(2, 2, 24, 1e-5), torch.float32),
    (AttentionShape(8, 1, 128, 1e-6), torch.bfloat16),
)


class Case(NamedTuple):
    """Rows of (tokens already in the pool, tokens of this pass), decode rows first."""

    rows: list[tuple[int, int]]
    page_size: int
    window: int | None
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    cached = st.integers(0, 300) | st.sampled_from([0, 15, 16, 255, 256, 257])
    decodes = draw(st.lists(st.tuples(cached, st.just(1)), max_size=4))
    chunks = draw(st.lists(st.tuples(cached, st.integers(2, 70)), max_size=3, min_size=0 if decodes else 1))
    page_size = draw(st.sampled_from([1, 2, 3, 8, 16, 32, 48]))
    return Case(decodes + chunks, page_size, draw(st.none() | st.integers(1, 80)), draw(st.integers(0, 1000)))


def build(case: Case, shape: AttentionShape, dtype: torch.dtype) -> tuple[FlatBatch, KVPool, torch.Tensor]:
    """A batch over randomly ordered pages, a pool full of random numbers and NaN where nothing was written, and qkv."""
    generator = torch.Generator().manual_seed(case.seed)
    needed = [-(-(cached + new) // case.page_size) for cached, new in case.rows]
    num_pages = sum(needed) + 2
    order = torch.randperm(num_pages, generator=generator).tolist()
    config = ModelConfig(
        architecture="llama", vocab_size=8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim, context_length=4096, rms_norm_eps=1e-5,
        rope=Rope(1e4), tied_embeddings=True, windows=(None,),
    )  # fmt: skip
    pool = KVPool(config, num_pages, case.page_size, dtype, "cpu")
    pool.keys[0].fill_(float("nan"))
    pool.values[0].fill_(float("nan"))
    segments: list[Segment] = []
    for (cached, new), count in zip(case.rows, needed, strict=True):
        pages, order = order[:count], order[count:]
        at = torch.arange(cached)
        where = torch.tensor(pages)[at // case.page_size]
        noise = torch.randn(2, cached, shape.num_kv_heads, shape.head_dim, generator=generator).to(dtype)
        pool.keys[0][where, :, :, at % case.page_size] = noise[0]
        pool.values[0][where, :, at % case.page_size] = noise[1]
        segments.append(Segment([0] * new, cached, pages))
    batch = flat_batch(segments, case.page_size)
    width = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    return batch, pool, torch.randn(len(batch.input_ids), width, generator=generator).to(dtype)


def attend(
    kernels: Kernels, shape: AttentionShape, case: Case, dtype: torch.dtype, norms: HeadNorms | None
) -> tuple[torch.Tensor, KVPool]:
    batch, pool, qkv = build(case, shape, dtype)
    frequencies = inverse_frequencies(Rope(1e4), shape.head_dim)
    attention = kernels.attention(shape, batch, frequencies, 1.0, pool)
    return attention.attend(qkv, 0, case.window, norms), pool


@pytest.mark.parametrize(("shape", "dtype"), CASES)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_attention_equals_the_plain_one(case: Case, shape: AttentionShape, dtype: torch.dtype) -> None:
    expected, expected_pool = attend(PLAIN, shape, case, dtype, None)
    actual, pool = attend(CPU[dtype], shape, case, dtype, None)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[dtype])
    for written, wanted in ((pool.keys[0], expected_pool.keys[0]), (pool.values[0], expected_pool.values[0])):
        torch.testing.assert_close(written, wanted, rtol=1e-2, atol=TOLERANCE[dtype], equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_head_norms_are_applied_before_rotation(dtype: torch.dtype) -> None:
    shape = SMALL
    norms = HeadNorms(torch.linspace(0.5, 2, 16).to(dtype), torch.linspace(2, 0.5, 16).to(dtype))
    case = Case([(40, 1), (3, 1), (0, 37), (20, 5)], 16, None, 5)
    expected, expected_pool = attend(PLAIN, shape, case, dtype, norms)
    actual, pool = attend(CPU[dtype], shape, case, dtype, norms)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[dtype] * 2)
    torch.testing.assert_close(pool.keys[0], expected_pool.keys[0], rtol=2e-2, atol=TOLERANCE[dtype], equal_nan=True)


def test_large_scores_do_not_overflow() -> None:
    shape, case = SMALL, Case([(200, 1), (0, 30)], 16, None, 1)
    outputs: list[torch.Tensor] = []
    for kernels in (PLAIN, CPU[torch.float32]):
        batch, pool, qkv = build(case, shape, torch.float32)
        attention = kernels.attention(shape, batch, inverse_frequencies(Rope(1e4), 16), 1.0, pool)
        outputs.append(attention.attend(qkv * 300, 0, None, None))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-2)
    assert outputs[1].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "hidden"), [(1, 576), (7, 64), (300, 576), (33, 100)])
def test_rms_norms_equal_the_plain_ones(tokens: int, hidden: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(tokens)
    x, residual = (torch.randn(tokens, hidden, generator=generator).mul(3).to(dtype) for _ in range(2))
    weight = torch.rand(hidden, generator=generator).add(0.5).to(dtype)
    kernels, rtol = CPU[dtype], 1e-5 if dtype is torch.float32 else 1.6e-2
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), PLAIN.rms_norm(x, weight, 1e-5), rtol=rtol, atol=1e-5)
    ours, theirs = residual.clone(), residual.clone()
    actual, expected = kernels.add_rms_norm(x, ours, weight, 1e-5), PLAIN.add_rms_norm(x, theirs, weight, 1e-5)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-5)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "inner"), [(1, 1536), (9, 128), (200, 200)])
def test_silu_mul_equals_the_plain_one(tokens: int, inner: int, dtype: torch.dtype) -> None:
    gate_up = torch.randn(tokens, 2 * inner, generator=torch.Generator().manual_seed(inner)).mul(8)
    gate_up[0, :4] = torch.tensor([-200.0, 200.0, -1e30, 1e30])
    gate_up = gate_up.to(dtype)
    rtol = 1e-5 if dtype is torch.float32 else 1.6e-2
    torch.testing.assert_close(CPU[dtype].silu_mul(gate_up), PLAIN.silu_mul(gate_up), rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 8, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_linear_equals_the_plain_one(rows: int, biased: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(320, 96, generator=generator).to(dtype)
    bias = torch.randn(320, generator=generator).to(dtype) if biased else None
    x = torch.randn(rows, 96, generator=generator).to(dtype)
    expected = PLAIN.linear(weight, bias)(x)
    tolerance = 1e-4 if dtype is torch.float32 else 0.15
    torch.testing.assert_close(CPU[dtype].linear(weight, bias)(x), expected, rtol=1e-2, atol=tolerance)
