"""Floors of steps: known parameter counts, and sums done the long way."""

from __future__ import annotations

import pytest

from benchmarks.gpu import floors
from benchmarks.gpu.floors import Roof, Work
from benchmarks.gpu.sizes import FULL, SMALL

PARAMETERS = {  # as the model cards and checkpoints count them, norms included
    "llama-3-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "smollm2-135m": 134_515_008,
}
TINY = SMALL.config("tiny")


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_have_as_many_parameters_as_the_models(name: str) -> None:
    config = FULL.config(name)
    embeddings = config.vocab_size * config.hidden_size * (1 if config.tied_embeddings else 2)
    norms = (2 * config.num_layers + 1) * config.hidden_size
    norms += 2 * config.num_layers * config.head_dim * config.qk_norm
    assert config.num_layers * floors.layer_weights(config) + embeddings + norms == PARAMETERS[name]


def test_a_decode_step_of_llama_reads_its_weights_and_its_kv() -> None:
    config = FULL.config("llama-3-8b")
    step = floors.decode_step(config, [2048] * 64, itemsize=2)
    weights = 2 * (PARAMETERS["llama-3-8b"] - config.vocab_size * config.hidden_size)  # but for the embedding's rows
    kv = 64 * 2048 * 131_072  # bytes of a token's KV: 2 * 32 layers * 8 heads * 128 * 2
    assert step.bytes == pytest.approx(weights + kv, rel=2e-3)


def test_shared_tokens_are_read_once_and_computed_by_all() -> None:
    apart = floors.decode_attention(TINY, [100] * 4, 2)
    shared = floors.decode_attention(TINY, [100] * 4, 2, shared=96)
    assert apart.flops == shared.flops == 4 * 4 * TINY.q_size * 100
    assert apart.bytes - shared.bytes == 3 * 96 * 2 * TINY.kv_size * 2


@pytest.mark.parametrize(("new", "before"), [(1, 0), (7, 0), (5, 11)])
def test_prefill_attention_counts_every_pair_once(new: int, before: int) -> None:
    pairs = sum(before + at + 1 for at in range(new))
    assert floors.prefill_attention(TINY, new, before, 2).flops == 4 * TINY.q_size * pairs


def test_prefill_of_a_prompt_in_two_chunks_does_the_same_operations() -> None:
    head = 2 * TINY.vocab_size * TINY.hidden_size  # logits of the last token of each
    whole = floors.prefill_step(TINY, 48, 0, 2).flops
    assert floors.prefill_step(TINY, 32, 0, 2).flops + floors.prefill_step(TINY, 16, 32, 2).flops == whole + head


def test_a_roof_takes_the_slower_of_both() -> None:
    roof = Roof(bytes_per_s=100, flops_per_s=1000)
    assert roof.seconds(Work(bytes=50, flops=100)) == 0.5
    assert roof.seconds(Work(bytes=50, flops=2000)) == 2
    assert (Work(1, 2) + Work(3, 4)).times(2) == Work(8, 12)
