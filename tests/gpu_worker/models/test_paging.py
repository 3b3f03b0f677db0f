"""However a sequence is cut into chunks, spread over pages and mixed with strangers: the logits stay the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kv_pool import KVPool, bytes_per_page
from gpu_worker.loader import AnyDecoder, build_decoder, open_weights
from gpu_worker.packed_loader import build_packed
from shared.model_files import ModelFiles
from tests.gpu_worker.forward import Segment, flat_batch, whole_forward

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["plain", "compiled"])
def decoder(request: pytest.FixtureRequest, toy_model: Path) -> AnyDecoder:
    weights = open_weights(ModelFiles("toy", "huggingface", toy_model))
    if request.param == "compiled":
        return build_packed(weights, torch.float32, "none")
    return build_decoder(weights, PlainKernels(), CPU, torch.float32)


def sequence(length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(3, 300), k=length)


def in_chunks(decoder: AnyDecoder, ids: list[int], chunk: int, page_size: int) -> Tensor:
    """Logits of all tokens, computed ``chunk`` at a time on pages in random order."""
    count = -(-len(ids) // page_size)
    pool = KVPool(decoder.config, count + 3, page_size, torch.float32, CPU)
    pages = random.Random(7).sample(range(count + 3), count)
    logits = [
        decoder.forward(flat_batch([Segment(ids[at : at + chunk], at, pages)], page_size), pool)
        for at in range(0, len(ids), chunk)
    ]
    return torch.cat(logits)


@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("chunk", [1, 3, 16, 50])
def test_chunks_equal_the_whole(decoder: AnyDecoder, chunk: int, page_size: int) -> None:
    ids = sequence(75, seed=2)
    expected = whole_forward(decoder, ids)
    torch.testing.assert_close(in_chunks(decoder, ids, chunk, page_size), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("page_size", [1, 16])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_mixed_batches_equal_each_row_alone(decoder: AnyDecoder, page_size: int, data: st.DataObject) -> None:
    """Random schedules of several sequences: each step computes some tokens of each, in one batch."""
    lengths = data.draw(st.lists(st.integers(2, 60), min_size=2, max_size=6))
    ids = [sequence(length, seed=n) for n, length in enumerate(lengths)]
    needed = [-(-length // page_size) for length in lengths]
    pool = KVPool(decoder.config, sum(needed), page_size, torch.float32, CPU)
    order = random.Random(sum(lengths)).sample(range(sum(needed)), sum(needed))
    pages = [[order.pop() for _ in range(count)] for count in needed]
    done = [0] * len(ids)
    logits: list[list[Tensor]] = [[] for _ in ids]
    while any(at < len(tokens) for at, tokens in zip(done, ids, strict=True)):
        steps: list[tuple[int, int]] = []
        for row, (at, tokens) in enumerate(zip(done, ids, strict=True)):
            if at < len(tokens):
                steps.append((data.draw(st.integers(1, len(tokens) - at)), row))
        steps.sort(key=lambda step: step[0] > 1)  # decode rows come first
        segments = [Segment(ids[row][done[row] : done[row] + new], done[row], pages[row]) for new, row in steps]
        out = decoder.forward(flat_batch(segments, page_size), pool).split([new for new, _ in steps])
        for (new, row), part in zip(steps, out, strict=True):
            logits[row].append(part)
            done[row] += new
    for tokens, parts in zip(ids, logits, strict=True):
        torch.testing.assert_close(torch.cat(parts), whole_forward(decoder, tokens), rtol=0, atol=1e-4)


def test_logits_only_where_wanted(decoder: AnyDecoder) -> None:
    ids = sequence(20, seed=4)
    pool = KVPool(decoder.config, 2, 16, torch.float32, CPU)
    logits = decoder.forward(flat_batch([Segment(ids, 0, [1, 0])], 16, logits="last"), pool)
    assert logits.shape == (1, decoder.config.vocab_size)
    torch.testing.assert_close(logits[0], whole_forward(decoder, ids)[-1], rtol=0, atol=1e-4)


def test_no_logits_wanted_still_writes_kv(decoder: AnyDecoder) -> None:
    ids = sequence(30, seed=5)
    pool = KVPool(decoder.config, 2, 16, torch.float32, CPU)
    first = flat_batch([Segment(ids[:29], 0, [0, 1])], 16)
    logits = decoder.forward(first._replace(logit_indices=torch.empty(0, dtype=torch.int64)), pool)
    assert logits.shape == (0, decoder.config.vocab_size)
    last = decoder.forward(flat_batch([Segment(ids[29:], 29, [0, 1])], 16), pool)
    torch.testing.assert_close(last[0], whole_forward(decoder, ids)[-1], rtol=0, atol=1e-4)


def test_memory_of_the_pool_is_as_announced(decoder: AnyDecoder) -> None:
    pool = KVPool(decoder.config, 5, 16, torch.bfloat16, CPU)
    held = sum(t.numel() * t.element_size() for t in (*pool.keys, *pool.values))
    assert held == 5 * bytes_per_page(decoder.config, 16, torch.bfloat16)
    assert pool.capacity == 80
    with pytest.raises(ValueError, match="holds nothing"):
        KVPool(decoder.config, 0, 16, torch.float32, CPU)
