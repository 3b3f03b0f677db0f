"""The decoder's kernels on the device, as it compiles them, against plain torch on the same inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.interface import AttentionShape, HeadNorms, Kernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.rope import Rope, inverse_frequencies
from gpu_worker.sharing import nothing_shared
from tests.gpu_worker.kernels.decoder_cases import Case, Row, build, model_config

PLAIN = PlainKernels()
HALF, BRAIN = torch.float16, torch.bfloat16
TOLERANCE = {HALF: 4e-3, BRAIN: 3e-2}  # of values of order one, each rounded once or twice
SHAPES = {
    "llama-3-8b": AttentionShape(32, 8, 128, 1e-5),
    "qwen3-0.6b": AttentionShape(16, 8, 128, 1e-6),
    "smollm2-135m": AttentionShape(9, 3, 64, 1e-5),
    "one KV head": AttentionShape(8, 1, 256, 1e-5),
    "odd size": AttentionShape(6, 2, 80, 1e-5),
}
ROOT, LEFT = ("root", 32), ("left", 8)  # pages of 16 tokens
CASES = {
    "decode": Case([Row(cached) for cached in (0, 1, 15, 16, 17, 300, 2047)], 16),
    "decode, pages of 1": Case([Row(cached) for cached in (0, 5, 130)], 1),
    "one long row": Case([Row(20_000)], 16),
    "chunks": Case([Row(0, 300), Row(16, 129), Row(700, 64)], 16),
    "decode beside chunks": Case([Row(100), Row(513), Row(0, 257), Row(40, 3)], 16),
    "a prompt": Case([Row(0, 2500)], 16),
    "a tree": Case(
        [*(Row(650 + n, path=(ROOT, LEFT)) for n in range(5)), *(Row(530 + n, path=(ROOT,)) for n in range(3))], 16
    ),
    "many share": Case([Row(512 + n, path=(ROOT,)) for n in range(40)], 16),
    "a window": Case([Row(100), Row(900), Row(0, 200), Row(64, 33)], 16, window=128),
    "a tree in a window": Case([Row(650 + n, path=(ROOT, LEFT)) for n in range(6)], 16, window=300),
}  # fmt: skip


def on(device: torch.device, batch: FlatBatch) -> FlatBatch:
    return FlatBatch(*(part.to(device) if isinstance(part, Tensor) else part for part in batch))


def pool_on(device: torch.device, shape: AttentionShape, pool: KVPool) -> KVPool:
    """A copy, laid out as the device's kernels like it."""
    config, dtype = model_config(shape), pool.values[0].dtype
    copy = KVPool(config, pool.num_pages, pool.page_size, dtype, device)
    copy.keys[0].copy_(pool.keys[0])
    copy.values[0].copy_(pool.values[0])
    return copy


def attend(
    kernels: Kernels, shape: AttentionShape, case: Case, dtype: torch.dtype, device: torch.device, normed: bool = False
) -> tuple[Tensor, KVPool]:
    batch, pool, qkv = build(case, shape, dtype)
    pool = pool_on(device, shape, pool)
    norms = None
    if normed:
        weight = torch.linspace(0.5, 1.5, shape.head_dim, device=device).to(dtype)
        norms = HeadNorms(weight, weight.flip(0))
    frequencies = inverse_frequencies(Rope(1e4), shape.head_dim).to(device)
    attention = kernels.attention(shape, on(device, batch), frequencies, 1.0, pool)
    return attention.attend(qkv.to(device, copy=True), 0, case.window, norms), pool


def check(case: Case, shape: AttentionShape, dtype: torch.dtype, device: torch.device, normed: bool = False) -> None:
    expected, expected_pool = attend(PLAIN, shape, case, dtype, device, normed)
    found, pool = attend(kernels_for(device, dtype), shape, case, dtype, device, normed)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
    for written, wanted in ((pool.keys[0], expected_pool.keys[0]), (pool.values[0], expected_pool.values[0])):
        torch.testing.assert_close(written, wanted, rtol=2e-2, atol=TOLERANCE[dtype], equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_attention_of_every_kind_of_batch(case: str, cuda: torch.device) -> None:
    check(CASES[case], SHAPES["llama-3-8b"], BRAIN, cuda)
    check(CASES[case], SHAPES["smollm2-135m"], HALF, cuda)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_attention_of_every_shape(shape: str, dtype: torch.dtype, cuda: torch.device) -> None:
    for case in ("decode beside chunks", "a tree"):
        check(CASES[case], SHAPES[shape], dtype, cuda, normed=shape == "qwen3-0.6b")


def test_noticing_what_is_shared_changes_nothing(cuda: torch.device) -> None:
    shape, case = SHAPES["llama-3-8b"], CASES["many share"]
    batch, pool, qkv = build(case, shape, BRAIN)
    kernels, frequencies = kernels_for(cuda, BRAIN), inverse_frequencies(Rope(1e4), shape.head_dim).to(cuda)
    found: list[Tensor] = []
    for sharing in (batch.sharing, nothing_shared(len(case.rows))):
        moved = on(cuda, batch)._replace(sharing=sharing)
        attention = kernels.attention(shape, moved, frequencies, 1.0, pool_on(cuda, shape, pool))
        found.append(attention.attend(qkv.to(cuda, copy=True), 0, None, None))
    assert batch.sharing.num_segments
    torch.testing.assert_close(*found, rtol=0, atol=1e-2)


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
@pytest.mark.parametrize("hidden", [64, 576, 1024, 4096])
@pytest.mark.parametrize("tokens", [1, 7, 4096])
def test_norms(tokens: int, hidden: int, dtype: torch.dtype, cuda: torch.device) -> None:
    generator = torch.Generator(cuda).manual_seed(tokens)
    x, residual = (torch.randn(tokens, hidden, generator=generator, device=cuda).mul(3).to(dtype) for _ in range(2))
    weight = torch.rand(hidden, generator=generator, device=cuda).add(0.5).to(dtype)
    kernels, close = kernels_for(cuda, dtype), {"rtol": 1.6e-2, "atol": 1e-3}
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), PLAIN.rms_norm(x, weight, 1e-5), **close)
    ours, theirs = residual.clone(), residual.clone()
    found, expected = kernels.add_rms_norm(x, ours, weight, 1e-5), PLAIN.add_rms_norm(x, theirs, weight, 1e-5)
    torch.testing.assert_close(found, expected, **close)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
@pytest.mark.parametrize(("tokens", "inner"), [(1, 1536), (9, 14336), (4096, 3072), (3, 1000)])
def test_silu_mul(tokens: int, inner: int, dtype: torch.dtype, cuda: torch.device) -> None:
    gate_up = torch.randn(tokens, 2 * inner, generator=torch.Generator(cuda).manual_seed(inner), device=cuda)
    gate_up[0, :4] = torch.tensor([-200.0, 200.0, -6e4, 6e4], device=cuda)
    gate_up = gate_up.to(dtype)
    found, expected = kernels_for(cuda, dtype).silu_mul(gate_up), PLAIN.silu_mul(gate_up)
    torch.testing.assert_close(found, expected, rtol=1.6e-2, atol=1e-3)
