"""The decoder's Triton kernels in Triton's interpreter: run by test_decoder_triton.py in a process of its own, which
sets TRITON_INTERPRET before anything imports triton.
"""

from __future__ import annotations

import pytest
import torch
import triton
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.kernels.attention_plan import rows_of
from gpu_worker.kernels.attention_work import make_work
from gpu_worker.kernels.interface import AttentionShape, HeadNorms, Kernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.kernels.tiling import Launch, Tiling
from gpu_worker.kernels.triton_kernels import TritonKernels
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.rope import Rope, inverse_frequencies
from tests.gpu_worker.kernels.decoder_cases import CPU, Case, Row, build, cases

assert triton.knobs.runtime.interpret

HALF, SINGLE = torch.float16, torch.float32
TOLERANCE = {SINGLE: 2e-5, HALF: 4e-3}
PLAIN = PlainKernels()
SMALL = AttentionShape(4, 2, 16, 1e-5)  # heads, KV heads, head_dim, eps


class SmallTiles(TritonKernels):
    """Tiles so small that little work is many of them."""

    def __init__(self, device: torch.device, dtype: torch.dtype, programs: int = 10) -> None:
        super().__init__(device, dtype)
        self._programs = programs

    def tiling(self, shape: AttentionShape) -> Tiling:
        launch = Launch(32, 32, 4, 2)
        group = shape.num_heads // shape.num_kv_heads
        return Tiling(launch, launch, 16, group, self._programs, min_split=32, min_shared_split=32)


def attend(
    kernels: Kernels,
    shape: AttentionShape,
    case: Case,
    dtype: torch.dtype,
    norms: HeadNorms | None = None,
    *,
    keys_by_token: bool = True,
) -> tuple[Tensor, KVPool]:
    batch, pool, qkv = build(case, shape, dtype, keys_by_token=keys_by_token)
    attention = kernels.attention(shape, batch, inverse_frequencies(Rope(1e4), shape.head_dim), 1.0, pool)
    return attention.attend(qkv, 0, case.window, norms), pool


def check(
    case: Case, shape: AttentionShape, dtype: torch.dtype = HALF, *, keys_by_token: bool = True, programs: int = 10
) -> None:
    expected, expected_pool = attend(PLAIN, shape, case, dtype)
    actual, pool = attend(SmallTiles(CPU, dtype, programs), shape, case, dtype, keys_by_token=keys_by_token)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[dtype])
    for written, wanted in ((pool.keys[0], expected_pool.keys[0]), (pool.values[0], expected_pool.values[0])):
        torch.testing.assert_close(written, wanted, rtol=1e-2, atol=TOLERANCE[dtype], equal_nan=True)


def tree(page_size: int) -> list[Row]:
    """Two levels of sharing; one row that is alone, one that shares all but its last token."""
    root, left, right = ("root", 96 // page_size), ("left", 48 // page_size), ("right", 32 // page_size)
    return [
        *(Row(150 + 7 * n, path=(root, left)) for n in range(5)),
        Row(144, path=(root, left)),
        *(Row(130 + 31 * n, path=(root, right)) for n in range(3)),
        Row(96, path=(root,)),
        Row(70),
    ]


MIXED = [Row(100), Row(0), Row(31), Row(0, 70), Row(45, 3), Row(150, 40), Row(16, 16)]


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize("page_size", [1, 5, 16])
def test_mixed_batches(page_size: int, dtype: torch.dtype) -> None:
    check(Case(MIXED, page_size), SMALL, dtype)


@pytest.mark.parametrize("window", [1, 20, 64, 500])
def test_windows(window: int) -> None:
    check(Case([*tree(16), Row(40, 50), Row(3, 4)], 16, window), SMALL)


@pytest.mark.parametrize(
    "shape",
    [
        AttentionShape(2, 2, 64, 1e-5),
        AttentionShape(6, 2, 80, 1e-5),
        AttentionShape(4, 1, 96, 1e-5),
        AttentionShape(8, 1, 128, 1e-5),
        AttentionShape(2, 1, 256, 1e-5),
        AttentionShape(7, 1, 24, 1e-5),
    ],
)
def test_shapes_of_models(shape: AttentionShape) -> None:
    check(Case([Row(90, path=(("a", 5),)), Row(85, path=(("a", 5),)), Row(11, 30), Row(70, 2)], 16), shape)


@pytest.mark.parametrize("page_size", [1, 16])
def test_rows_on_a_tree(page_size: int) -> None:
    check(Case(tree(page_size), page_size), SMALL)
    check(Case([*tree(page_size), Row(0, 33)], page_size), SMALL, SINGLE)


@settings(max_examples=8, derandomize=True, deadline=None, database=None)
@given(case=cases(), group=st.sampled_from([1, 3, 4, 8]), dim=st.sampled_from([16, 24]))
def test_any_batch(case: Case, group: int, dim: int) -> None:
    check(case, AttentionShape(group, 1, dim, 1e-5))


def test_a_long_row_in_many_pieces() -> None:
    check(Case([Row(900), Row(3)], 16), SMALL, SINGLE)


def test_a_few_queries_before_a_long_context_are_split_too() -> None:
    check(Case([Row(300, 7), Row(0, 5)], 16), SMALL)


def test_a_message_after_a_long_conversation_is_split_too() -> None:
    case, kernels = Case([Row(300, 19)], 16), SmallTiles(CPU, HALF, programs=20)
    assert not len(make_work(rows_of(build(case, SMALL, HALF).batch, 16), kernels.tiling(SMALL), None).tiles)
    check(case, SMALL, programs=20)


def test_only_chunks() -> None:
    check(Case([Row(0, 65), Row(64, 64)], 8), SMALL)


def test_keys_by_dimension() -> None:
    check(Case([*tree(16), *MIXED[3:]], 16), SMALL, keys_by_token=False)


def test_head_norms_are_applied_before_rotation() -> None:
    norms = HeadNorms(torch.linspace(0.5, 2, 16).to(HALF), torch.linspace(2, 0.5, 16).to(HALF))
    case = Case([Row(40), Row(3), Row(0, 37), Row(20, 5)], 16)
    expected, expected_pool = attend(PLAIN, SMALL, case, HALF, norms)
    actual, pool = attend(SmallTiles(CPU, HALF), SMALL, case, HALF, norms)
    torch.testing.assert_close(actual, expected, rtol=0, atol=2 * TOLERANCE[HALF])
    torch.testing.assert_close(pool.keys[0], expected_pool.keys[0], rtol=2e-3, atol=2e-3, equal_nan=True)


def test_large_scores_do_not_overflow() -> None:
    case = Case([Row(200), Row(0, 30)], 16)
    outputs: list[Tensor] = []
    for kernels in (PLAIN, SmallTiles(CPU, SINGLE)):
        batch, pool, qkv = build(case, SMALL, SINGLE)
        attention = kernels.attention(SMALL, batch, inverse_frequencies(Rope(1e4), 16), 1.0, pool)
        outputs.append(attention.attend(qkv * 60, 0, None, None))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-2)
    assert outputs[1].isfinite().all()


def test_production_tiles() -> None:
    case = Case([*tree(16), *MIXED[3:]], 16)
    expected, _ = attend(PLAIN, SMALL, case, HALF)
    actual, _ = attend(kernels_for(CPU, HALF), SMALL, case, HALF)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[HALF])


def test_a_plan_is_refilled_in_place_and_a_static_batch_may_be_longer() -> None:
    """What a CUDA graph needs: the same launches, the same addresses, other batches."""
    kernels = SmallTiles(CPU, HALF)
    plan = kernels.attention_plan(SMALL, (None, 150), 16, 12)
    addresses = [each.data_ptr() for each in plan.work(None)[2:]]
    cases = [
        Case(tree(16), 16),
        Case([Row(0)], 16),
        Case([Row(25 * n) for n in range(12)], 16),
        Case(tree(16)[2:9], 16),
    ]
    for case in cases:
        for window in (None, 150) if case is cases[0] else (None,):
            case = case._replace(window=window)
            expected, _ = attend(PLAIN, SMALL, case, HALF)
            batch, pool, qkv = build(case, SMALL, HALF)
            plan.fill(batch)
            spare = 12 - len(case.rows)
            static = batch._replace(
                positions=torch.cat((batch.positions, torch.full((spare,), 99))),
                slots=torch.cat((batch.slots, torch.full((spare,), -1))),
                page_tables=torch.cat(
                    (batch.page_tables, batch.page_tables.new_zeros(spare, batch.page_tables.shape[1]))
                ),
                plan=plan,
            )
            before = pool.keys[0].clone()
            attention = kernels.attention(SMALL, static, inverse_frequencies(Rope(1e4), 16), 1.0, pool)
            actual = attention.attend(torch.cat((qkv, qkv.new_full((spare, qkv.shape[1]), 7.0))), 0, window, None)
            torch.testing.assert_close(actual[: len(case.rows)], expected, rtol=0, atol=TOLERANCE[HALF])
            changed = ((before != pool.keys[0]) & ~(before.isnan() & pool.keys[0].isnan())).any(1).any(1)
            assert changed.sum() == len(case.rows), "spare tokens wrote KV"
    assert addresses == [each.data_ptr() for each in plan.work(None)[2:]]
    with pytest.raises(ValueError, match="does not fit"):
        plan.fill(build(Case([Row(0, 300)], 16), SMALL, HALF).batch)
    with pytest.raises(ValueError, match="does not fit"):
        kernels.attention_plan(SMALL, (None,), 16, 1).fill(build(Case([Row(9, 8)], 16), SMALL, HALF).batch)
    with pytest.raises(ValueError, match="100 spans"):
        plan.fill(build(Case([Row(9)] * 100, 16), SMALL, HALF).batch)


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize(("tokens", "hidden"), [(1, 576), (7, 64), (5, 100)])
def test_rms_norms_equal_the_plain_ones(tokens: int, hidden: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(tokens)
    x, residual = (torch.randn(tokens, hidden, generator=generator).mul(3).to(dtype) for _ in range(2))
    weight = torch.rand(hidden, generator=generator).add(0.5).to(dtype)
    kernels, rtol = TritonKernels(CPU, dtype), 1e-5 if dtype is SINGLE else 2e-3
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), PLAIN.rms_norm(x, weight, 1e-5), rtol=rtol, atol=1e-5)
    ours, theirs = residual.clone(), residual.clone()
    actual, expected = kernels.add_rms_norm(x, ours, weight, 1e-5), PLAIN.add_rms_norm(x, theirs, weight, 1e-5)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-5)
    assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize(("tokens", "inner"), [(1, 1536), (9, 128), (3, 1000)])
def test_silu_mul_equals_the_plain_one(tokens: int, inner: int, dtype: torch.dtype) -> None:
    gate_up = torch.randn(tokens, 2 * inner, generator=torch.Generator().manual_seed(inner)).mul(8)
    gate_up[0, :4] = torch.tensor([-200.0, 200.0, -6e4, 6e4])
    gate_up = gate_up.to(dtype)
    rtol = 1e-5 if dtype is SINGLE else 2e-3
    actual = TritonKernels(CPU, dtype).silu_mul(gate_up)
    torch.testing.assert_close(actual, PLAIN.silu_mul(gate_up), rtol=rtol, atol=1e-5)


def test_rotation_far_along() -> None:
    """Positions up to 128k, whose angles are large."""
    positions = torch.tensor([0, 1, 4095, 65_537, 131_071])
    frequencies = inverse_frequencies(Rope(5e5), 128)
    batch, pool, _ = build(Case([Row(0, 5)], 16), AttentionShape(1, 1, 128, 1e-5), SINGLE)
    far = batch._replace(positions=positions)
    qkv = torch.randn(5, 3 * 128, generator=torch.Generator().manual_seed(3))
    rotated: list[Tensor] = []
    for kernels in (PLAIN, TritonKernels(CPU, SINGLE)):
        attention = kernels.attention(AttentionShape(1, 1, 128, 1e-5), far, frequencies, 1.25, pool)
        attention.attend(qkv.clone(), 0, None, None)
        rotated.append(pool.keys[0].clone())
    torch.testing.assert_close(rotated[1], rotated[0], rtol=1e-4, atol=1e-5, equal_nan=True)
