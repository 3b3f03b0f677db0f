"""The compiled decoder computes what the plain one does: any shape, page table, mix of rows, sharing and format."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.grouped import Grouped
from gpu_worker.kernels.panels import quantized
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kv_pool import KVPool
from gpu_worker.loader import build_decoder
from gpu_worker.models.compiled_decoder import CompiledDecoder
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.decoder import Decoder
from gpu_worker.models.rope import Rope
from gpu_worker.packed_loader import build_packed
from shared.config import Quantization
from tests.gpu_worker.forward import Segment, flat_batch, whole_forward

CPU = torch.device("cpu")


class RandomWeights:
    """Weights of any configuration; some of them quantised, if ``bits`` says so."""

    def __init__(self, config: ModelConfig, bits: int = 16, has_bias: bool = False) -> None:
        self.config = config
        self._bits = bits
        self._has_bias = has_bias

    def __contains__(self, name: str) -> bool:
        return not name.endswith(".bias") or (self._has_bias and "self_attn" in name and "o_proj" not in name)

    def tensor(self, name: str) -> Tensor:
        grouped = self.grouped(name)
        return self._plain(name) if grouped is None else grouped.dequantized()

    def grouped(self, name: str) -> Grouped | None:
        bits = self.bits(name)
        return None if bits > 8 else quantized(self._plain(name), bits)

    def bits(self, name: str) -> int:
        if self._bits > 8 or "norm" in name or name.endswith(".bias"):
            return 16
        return 8 if "embed" in name or "lm_head" in name else self._bits

    def frequency_divisors(self) -> Tensor | None:
        return None

    def _plain(self, name: str) -> Tensor:
        shape = self._shape(name)
        generator = torch.Generator().manual_seed(sum(name.encode()))
        values = torch.randn(*shape, generator=generator)
        return values * 0.2 + 1 if "norm" in name else values * (shape[-1] ** -0.5 if len(shape) > 1 else 0.5)

    def _shape(self, name: str) -> tuple[int, ...]:
        config = self.config
        part = name.split(".")[-2]
        hidden, inner = config.hidden_size, config.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "embed_tokens": (config.vocab_size, hidden), "lm_head": (config.vocab_size, hidden),
            "q_proj": (config.q_size, hidden), "k_proj": (config.kv_size, hidden), "v_proj": (config.kv_size, hidden),
            "o_proj": (hidden, config.q_size), "gate_proj": (inner, hidden), "up_proj": (inner, hidden),
            "down_proj": (hidden, inner), "q_norm": (config.head_dim,), "k_norm": (config.head_dim,),
        }  # fmt: skip
        shape = shapes.get(part, (hidden,))
        return shape[:1] if name.endswith(".bias") else shape


def config(
    heads: int, kv_heads: int, dim: int, *, window: int | None = None, qk_norm: bool = False, tied: bool = True,
    hidden: int = 64, inner: int = 96,
) -> ModelConfig:  # fmt: skip
    return ModelConfig(
        architecture="llama", vocab_size=70, hidden_size=hidden, intermediate_size=inner, num_layers=2,
        num_heads=heads, num_kv_heads=kv_heads, head_dim=dim, context_length=4096, rms_norm_eps=1e-5,
        rope=Rope(1e4), tied_embeddings=tied, windows=(window, None), qk_norm=qk_norm,
    )  # fmt: skip


class Case(NamedTuple):
    """Rows of (tokens already in the pool, tokens of this pass), decode rows first; how many tokens they may share."""

    rows: list[tuple[int, int]]
    shared: int
    page_size: int
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    cached = st.integers(0, 300) | st.sampled_from([0, 15, 16, 255, 256, 257, 1100])
    decodes = draw(st.lists(st.tuples(cached, st.just(1)), max_size=12))
    chunks = draw(st.lists(st.tuples(cached, st.integers(2, 70)), max_size=3, min_size=0 if decodes else 1))
    page_size = draw(st.sampled_from([1, 2, 3, 8, 16, 32, 48]))
    return Case(decodes + chunks, draw(st.sampled_from([0, 60, 140, 600])), page_size, draw(st.integers(0, 1000)))


def build(case: Case, shape: ModelConfig, dtype: torch.dtype) -> tuple[FlatBatch, KVPool]:
    """A batch, and the pool that it is over."""
    segments, pool = lay_out(case, shape, dtype)
    return flat_batch(segments, case.page_size), pool


def lay_out(case: Case, shape: ModelConfig, dtype: torch.dtype) -> tuple[list[Segment], KVPool]:
    """Rows over randomly ordered pages, and a pool of random numbers, NaN where nothing was written.

    Rows that are long enough begin with the same pages.
    """
    generator = torch.Generator().manual_seed(case.seed)
    trunk = case.shared // case.page_size
    needed = [-(-(cached + new) // case.page_size) for cached, new in case.rows]
    num_pages = sum(needed) + trunk + 2
    order = torch.randperm(num_pages, generator=generator).tolist()
    common, order = order[:trunk], order[trunk:]
    pool = KVPool(shape, num_pages, case.page_size, dtype, "cpu")
    for layer in range(shape.num_layers):
        pool.keys[layer].fill_(float("nan"))
        pool.values[layer].fill_(float("nan"))
    segments: list[Segment] = []
    for (cached, new), count in zip(case.rows, needed, strict=True):
        pages, order = order[:count], order[count:]
        if cached >= len(common) * case.page_size:
            pages[: len(common)] = common
        at = torch.arange(cached)
        where = torch.tensor(pages, dtype=torch.int64)[at // case.page_size]
        for layer in range(shape.num_layers):
            # what a page holds depends on the page alone, so that rows agree about common ones
            noise = torch.Generator().manual_seed(layer)
            everything = torch.randn(2, num_pages, case.page_size, shape.num_kv_heads, shape.head_dim, generator=noise)
            k, v = everything[:, where, at % case.page_size].to(dtype)
            pool.keys[layer][where, :, :, at % case.page_size] = k
            pool.values[layer][where, :, at % case.page_size] = v
        ids = torch.randint(0, shape.vocab_size, (new,), generator=generator).tolist()
        segments.append(Segment(ids, cached, pages))
    return segments, pool


SHAPES = {
    "4 heads, 2 for KV": config(4, 2, 16),
    "9 heads, 3 for KV, as SmolLM2": config(9, 3, 64),
    "one KV head of 7": config(7, 1, 32),
    "one KV head of 16": config(16, 1, 16),  # more than fit the registers: tasks of several queries have one
    "no groups, odd width": config(2, 2, 24, hidden=32, inner=40),
    "window": config(4, 2, 16, window=50),
    "head norms, untied": config(4, 4, 32, qk_norm=True, tied=False),
}


def decoders(
    shape: ModelConfig, dtype: torch.dtype, bits: int = 16, quantization: Quantization = "none", has_bias: bool = False
) -> tuple[Decoder, CompiledDecoder]:
    """The plain one computes in float32 whatever the other does."""
    weights = RandomWeights(shape, bits, has_bias)
    return build_decoder(weights, PlainKernels(), CPU, torch.float32), build_packed(weights, dtype, quantization)


FLOAT32 = {name: decoders(shape, torch.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_logits_and_kv_are_those_of_the_plain_decoder(name: str, case: Case) -> None:
    plain, compiled = FLOAT32[name]
    batch, pool = build(case, SHAPES[name], torch.float32)
    other = KVPool(SHAPES[name], pool.num_pages, pool.page_size, torch.float32, "cpu")
    for layer in range(SHAPES[name].num_layers):
        other.keys[layer].copy_(pool.keys[layer])
        other.values[layer].copy_(pool.values[layer])
    tokens = torch.arange(len(batch.input_ids)).flip(0)
    expected, actual = (
        plain.forward_with_states(batch, pool, tokens),
        compiled.forward_with_states(batch, other, tokens),
    )
    torch.testing.assert_close(actual.logits, expected.logits, rtol=0, atol=2e-4)
    torch.testing.assert_close(actual.states, expected.states, rtol=0, atol=2e-4)
    for layer in range(SHAPES[name].num_layers):
        torch.testing.assert_close(other.keys[layer], pool.keys[layer], rtol=0, atol=1e-4, equal_nan=True)
        torch.testing.assert_close(other.values[layer], pool.values[layer], rtol=0, atol=1e-4, equal_nan=True)


BFLOAT16 = {name: decoders(shape, torch.bfloat16) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_bfloat16_is_close_for_any_batch(name: str, case: Case) -> None:
    """Its attention has code of its own: pairs of keys' dimensions, and of tokens, of which there may be an odd one."""
    plain, compiled = BFLOAT16[name]
    batch, pool = build(case, SHAPES[name], torch.float32)
    _, half = build(case, SHAPES[name], torch.bfloat16)
    expected, actual = plain.forward(batch, pool), compiled.forward(batch, half)
    assert actual.isfinite().all()
    assert float((actual - expected).norm() / expected.norm()) < 0.05


def alone(shape: ModelConfig) -> CompiledDecoder:
    return build_packed(RandomWeights(shape, 16, has_bias=False), torch.float32, "none", alone=True)


ALONE = alone(SHAPES["9 heads, 3 for KV, as SmolLM2"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_a_row_can_be_computed_as_if_it_were_alone(case: Case) -> None:
    """To the last bit, whatever is beside it: also the token that another pass computed at the end of a chunk."""
    decoder = ALONE
    segments, pool = lay_out(case, decoder.config, torch.float32)
    together = decoder.forward(flat_batch(segments, case.page_size, "last"), pool)
    for row, segment in zip(together, segments, strict=True):
        assert torch.equal(decoder.forward(flat_batch([segment], case.page_size, "last"), pool)[0], row)
        last = Segment(segment.ids[-1:], segment.start + len(segment.ids) - 1, segment.pages)
        assert torch.equal(decoder.forward(flat_batch([last], case.page_size), pool)[0], row)


def test_a_token_is_the_same_however_its_row_is_cut() -> None:
    """To the last bit, at every position: what a decode row drew is drawn again where a chunk computes it."""
    ids, size = [n % ALONE.config.vocab_size for n in range(200)], 16
    whole = whole_forward(ALONE, ids, size)
    for cuts in ([1] * len(ids), [64, 64, 72], [7, 100, 1, 92]):
        pool = KVPool(ALONE.config, -(-len(ids) // size), size, ALONE.dtype, ALONE.device)
        start = 0
        for length in cuts:
            segment = Segment(ids[start : start + length], start, range(pool.num_pages))
            logits = ALONE.forward(flat_batch([segment], size), pool)
            assert torch.equal(logits, whole[start : start + length]), (cuts, start)
            start += length


CASE = Case([(400, 1), (300, 1), (1, 1), (333, 1), (0, 37), (20, 5)], 140, 16, 5)
PRECISIONS: dict[str, tuple[int, Quantization, float]] = {
    "bfloat16": (16, "none", 0.05),
    "a 4-bit file as it is": (4, "auto", 0.05),
    "an 8-bit file as it is": (8, "auto", 0.05),
    "a 4-bit file expanded": (4, "none", 0.05),
    "rounded to 8 bits": (16, "q8", 0.05),
    "rounded to 4 bits": (16, "q4", 0.35),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_precisions(precision: str, has_bias: bool) -> None:
    bits, quantization, error = PRECISIONS[precision]
    shape = SHAPES["9 heads, 3 for KV, as SmolLM2"]
    plain, compiled = decoders(shape, torch.bfloat16, bits, quantization, has_bias)
    batch, pool = build(CASE, shape, torch.float32)
    other, half = build(CASE, shape, torch.bfloat16)
    expected, actual = plain.forward(batch, pool), compiled.forward(other, half)
    assert float((actual - expected).norm() / expected.norm()) < error


def test_what_is_stored_is_said() -> None:
    shape = SHAPES["4 heads, 2 for KV"]
    assert decoders(shape, torch.float32)[1].precision == "float32"
    assert decoders(shape, torch.bfloat16, 4, "auto")[1].precision == "4-bit weights, bfloat16 KV"
    assert decoders(shape, torch.bfloat16, 16, "q8")[1].precision == "8-bit weights, bfloat16 KV"


def test_a_batch_larger_than_any_before_and_one_after_it() -> None:
    plain, compiled = decoders(SHAPES["4 heads, 2 for KV"], torch.float32)
    for new in (3, 200, 2):
        batch, pool = build(Case([(0, new)], 0, 16, 1), plain.config, torch.float32)
        torch.testing.assert_close(compiled.forward(batch, pool), plain.forward(batch, pool), rtol=0, atol=2e-4)


def test_large_scores_do_not_overflow() -> None:
    shape = config(4, 2, 16, qk_norm=True)

    class Loud(RandomWeights):
        def tensor(self, name: str) -> Tensor:
            return super().tensor(name) * (30 if "q_norm" in name or "k_norm" in name else 1)

    plain = build_decoder(Loud(shape), PlainKernels(), CPU, torch.float32)
    compiled = build_packed(Loud(shape), torch.float32, "none")
    batch, pool = build(Case([(200, 1), (0, 30)], 0, 16, 1), shape, torch.float32)
    expected, actual = plain.forward(batch, pool), compiled.forward(batch, pool)
    assert actual.isfinite().all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("field", ["slots", "page_tables", "input_ids"])
def test_what_lies_outside_is_refused_before_it_is_touched(field: str) -> None:
    _, compiled = FLOAT32["4 heads, 2 for KV"]
    batch, pool = build(Case([(10, 1), (0, 5)], 0, 16, 1), compiled.config, torch.float32)
    beyond = getattr(batch, field).clone()
    beyond.view(-1)[-1] = 10_000
    with pytest.raises(IndexError, match="beyond"):
        compiled.forward(batch._replace(**{field: beyond}), pool)
