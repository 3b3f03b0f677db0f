"""What holds of a device sampler whatever its kernels. Small enough for the interpreter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.kernels import sampling as s
from gpu_worker.kernels.sampling import MaskRows
from shared.protocol import Sampling
from tests.gpu_worker import sampling_cases as cases
from tests.gpu_worker.sampling_cases import Batch, Here, Row

NAN, INF = float("nan"), float("inf")


def some(prompt: tuple[int, ...] = (1, 2), output: tuple[int, ...] = (), **parameters: Any) -> Row:
    return Row(Sampling(max_tokens=50, **parameters), np.array(prompt + output, np.int32), len(prompt))


def drawn(here: Here, logits: Tensor, rows: list[Row], masks: MaskRows | None = None) -> list[int | None]:
    batch = Batch(list(range(len(rows))), rows, logits, masks)
    sampler = cases.make_sampler(here, logits.shape[1], len(rows))
    cases.admit(sampler, batch)
    return cases.draw(sampler, batch)


def same(here: Here, logits: Tensor, rows: list[Row]) -> None:
    """The rows draw what the host's sampler draws, to a border."""
    cases.check(drawn(here, logits, rows), Batch([], rows, logits, None))


def state_of(sampler: DeviceSampler, slot: int, vocab: int) -> tuple[list[int], set[int], Counter[int]]:
    """Tokens of a row, and what its marks say: which are in the prompt, how often which are in the output."""
    state = sampler._state
    tokens = state.history[slot, : state.lengths[slot]].tolist()
    marks = state.marks[slot].tolist()
    assert len(marks) == vocab
    counts = {token: mark & s.COUNT_MASK for token, mark in enumerate(marks)}
    return (
        tokens,
        {t for t, mark in enumerate(marks) if mark & s.PROMPT_BIT},
        Counter({t: n for t, n in counts.items() if n}),
    )


def assert_state(sampler: DeviceSampler, slot: int, row: Row, vocab: int) -> None:
    """The device knows the row's tokens, and has counted them if it must."""
    tokens, in_prompt, counts = state_of(sampler, slot, vocab)
    assert tokens == row.token_ids.tolist()
    sampling = row.sampling
    if sampling.repetition_penalty != 1 or sampling.frequency_penalty or sampling.presence_penalty:
        assert in_prompt == set(tokens[: row.prompt_len])
        assert counts == Counter(tokens[row.prompt_len :])


# --- what is drawn


def random_batches(here: Here, count: int = 22) -> None:
    rng = np.random.default_rng(4)
    borders = rows = 0
    for _ in range(count):
        vocab = int(rng.choice([7, 200, 1024, 3001]))
        batch = cases.random_batch(rng, vocab, int(rng.integers(1, 6)), 8)
        sampler = cases.make_sampler(here, vocab, 8)
        cases.admit(sampler, batch)
        borders += cases.check(cases.draw(sampler, batch), batch)
        rows += len(batch.rows)
    assert borders <= rows / 50


def greedy_takes_the_first_of_the_largest(here: Here) -> None:
    logits = torch.full((4, 2100), -1.0)
    logits[0, [5, 1030, 2099]] = 3.0
    logits[1, [1030, 2099]] = 3.0
    logits[2] = -0.0
    logits[2, 1500:] = 0.0
    logits[3, 2099] = 1e-40
    logits[3, :2099] = -INF
    row = some(temperature=0.0)
    assert drawn(here, logits, [row] * 4) == [5, 1030, 0, 2099]


def ties_are_kept(here: Here) -> None:
    logits = torch.tensor([2.0, 1.0, 1.0, 1.0, -9.0])
    for parameters in ({"top_k": 2}, {"top_p": 0.6}, {"min_p": math.exp(-1.01)}):
        rows = [some(output=(0,) * n, seed=5, **parameters) for n in range(20)]
        found = drawn(here, logits.repeat(20, 1), rows)
        assert set(found) == {0, 1, 2, 3}
        same(here, logits.repeat(20, 1), rows)


def sets_far_from_the_best(here: Here) -> None:
    """Thousands of tokens are kept; or some so far below the best that no cut of a survey reaches them."""
    vocab = 4100
    flat = torch.linspace(0, 1, vocab)
    steep = torch.linspace(-400, -100, vocab)
    steep[77] = 0.0
    hollow = torch.full((vocab,), -INF)
    hollow[::300] = torch.linspace(0, 40, 14)
    parameters: list[dict[str, Any]] = [
        {"top_p": 0.9}, {"top_k": 4000}, {"top_k": 3500, "top_p": 0.95}, {"top_k": 50}, {"top_k": 50, "top_p": 0.9},
        {"top_p": 0.0}, {"min_p": 1e-30}, {"top_k": 9, "temperature": 1e-4}, {},
    ]  # fmt: skip
    rows = [some(seed=n, **{"temperature": 2.0, **each}) for n, each in enumerate(parameters)]
    for logits in (flat, steep, hollow):
        same(here, logits.repeat(len(rows), 1), rows)


def rows_without_a_choice(here: Here) -> None:
    logits = torch.zeros(6, 40)
    logits[0, 7] = NAN
    logits[1, 8] = -NAN
    logits[2, 9] = INF
    logits[3] = -INF
    logits[5, 20] = 30.0
    masks = MaskRows(torch.zeros(1, 2, dtype=torch.int32), torch.tensor([-1, -1, -1, -1, 0, -1], dtype=torch.int32))
    for parameters in ({"temperature": 0.0}, {"temperature": 0.1}, {"top_p": 0.9}):
        batch = Batch(list(range(6)), [some(frequency_penalty=0.1, **parameters)] * 6, logits.clone(), masks)
        sampler = cases.make_sampler(here, 40, 6)
        cases.admit(sampler, batch)
        assert cases.draw(sampler, batch) == [None] * 5 + [20]
        assert sampler.lengths.tolist() == [2, 2, 2, 2, 2, 3]
    biased = [some(temperature=0.0, logit_bias=((40, 1.0),)), some(temperature=0.0, logit_bias=((3, 1.0),))]
    assert drawn(here, torch.zeros(2, 40), biased) == [None, 3]


def half_precision(here: Here) -> None:
    rng = np.random.default_rng(8)
    batch = cases.random_batch(rng, 1500, 4, 4)
    for dtype in (torch.bfloat16, torch.float16):
        its = batch._replace(logits=batch.logits.to(dtype))
        sampler = cases.make_sampler(here, 1500, 4)
        cases.admit(sampler, its)
        cases.check(cases.draw(sampler, its), its)


def logits_with_a_wider_stride(here: Here) -> None:
    logits = torch.randn(2, 1300, generator=torch.Generator().manual_seed(1))
    row = some(top_k=20, repetition_penalty=1.2)
    assert drawn(here, logits[:, :1200], [row] * 2) == drawn(here, logits[:, :1200].contiguous(), [row] * 2)


# --- what is remembered


def several_draws_unread(here: Here) -> None:
    """Six draws, of which the host reads nothing in between; some rows sit one out."""
    rng = np.random.default_rng(9)
    vocab = 90
    sampler = cases.make_sampler(here, vocab, 4)
    rows = [cases.random_row(rng, vocab) for _ in range(4)]
    rows[0] = some(repetition_penalty=1.5, frequency_penalty=0.4, seed=3)
    rows[1] = some(min_tokens=3, stop_token_ids=(5, 6, 500), temperature=0.0)
    cases.admit(sampler, Batch([0, 1, 2, 3], rows, torch.zeros(0), None))
    for step in range(6):
        batch = cases.random_batch(rng, vocab, 4, 4)
        at = [slot for slot in batch.slots if slot != step]
        batch = Batch(at, [rows[slot] for slot in at], batch.logits[: len(at)] * 0.3, None)
        batch.logits[:, 5] = 4.0
        for slot, token in zip(at, expected := cases.draw(sampler, batch), strict=True):
            rows[slot] = rows[slot]._replace(token_ids=np.append(rows[slot].token_ids, token).astype(np.int32))
        cases.check(expected, batch)
    for slot, row in enumerate(rows):
        assert_state(sampler, slot, row, vocab)


def what_is_discarded_is_drawn_again(here: Here) -> None:
    rng = np.random.default_rng(10)
    batch = cases.random_batch(rng, 60, 4, 4)
    sampler = cases.make_sampler(here, 60, 4)
    cases.admit(sampler, batch)
    first = cases.draw(sampler, batch)
    cases.draw(sampler, batch)
    for slot, row in zip(batch.slots, batch.rows, strict=True):
        sampler.rewind(slot, len(row.token_ids))
    sampler.flush()
    for slot, row in zip(batch.slots, batch.rows, strict=True):
        assert_state(sampler, slot, row, 60)
    assert cases.draw(sampler, batch) == first


def the_hosts_edits(here: Here, rounds: int = 60) -> None:
    """Rows that begin, grow, and are cut, in any order and any number between two flushes."""
    rng = np.random.default_rng(11)
    vocab = 25
    sampler = cases.make_sampler(here, vocab, 3)
    rows: dict[int, Row] = {}
    for _ in range(rounds):
        slot = int(rng.integers(0, 3))
        row = rows.get(slot)
        if row is None or rng.random() < 0.15:
            rows[slot] = row = cases.random_row(rng, vocab)
            sampler.admit(slot, *row[:1], *row[1:])
        else:
            start = int(rng.integers(row.prompt_len, len(row.token_ids) + 1))
            new = rng.integers(0, vocab, rng.integers(0, 5)).astype(np.int32)[: cases.CONTEXT - start]
            sampler.replace(slot, start, new.tolist())
            rows[slot] = row._replace(token_ids=np.concatenate((row.token_ids[:start], new)))
        if rng.random() < 0.4:
            sampler.flush()
            for each, its in rows.items():
                assert_state(sampler, each, its, vocab)


def forced_tokens_in_place_of_drawn_ones(here: Here) -> None:
    sampler = cases.make_sampler(here, 10, 1)
    row = some((1, 2), frequency_penalty=1.0, temperature=0.0)
    sampler.admit(0, row.sampling, row.token_ids, 2)
    logits = torch.zeros(1, 10)
    logits[0, 4] = 0.5
    assert cases.draw(sampler, Batch([0], [row], logits.clone(), None)) == [4]
    assert cases.draw(sampler, Batch([0], [row], logits.clone(), None)) == [0]  # launched before the host knew better
    sampler.append(0, 3, (7, 7))
    sampler.flush()
    assert_state(sampler, 0, row._replace(token_ids=np.array((1, 2, 4, 7, 7), np.int32)), 10)
    logits[0, 7] = 2.1
    assert cases.draw(sampler, Batch([0], [row], logits.clone(), None)) == [7]
    assert cases.draw(sampler, Batch([0], [row], logits.clone(), None)) == [0]


def a_full_row_grows_no_more(here: Here) -> None:
    sampler = cases.make_sampler(here, 9, 2)
    row = some(tuple(range(9)) * 6 + (1,) * 6, presence_penalty=0.1, temperature=0.0)
    assert len(row.token_ids) == cases.CONTEXT
    batch = Batch([0], [row], torch.zeros(1, 9), None)
    cases.admit(sampler, batch)
    assert [cases.draw(sampler, batch) for _ in range(3)] == [[0], [1], [1]]
    assert sampler.lengths.tolist() == [cases.CONTEXT + 1, 0]
    assert not sampler.history[1].any()


def many_biases(here: Here) -> None:
    """As many as the front door allows, on a row that had others before."""
    rng = np.random.default_rng(12)
    vocab = 2500
    sampler = cases.make_sampler(here, vocab, 2)
    for count in (1024, 3):
        ids = rng.permutation(vocab)[:count].tolist()
        sampling = Sampling(
            max_tokens=9,
            logit_bias=tuple((token, float(rng.normal())) for token in ids),
            min_tokens=9,
            stop_token_ids=tuple(rng.permutation(vocab)[:128].tolist()),
            top_k=300,
        )
        batch = Batch([1], [Row(sampling, np.array([3], np.int32), 1)], torch.zeros(1, vocab), None)
        cases.admit(sampler, batch)
        cases.check(cases.draw(sampler, batch), batch)


CHECKS: tuple[Callable[[Here], None], ...] = (
    random_batches,
    greedy_takes_the_first_of_the_largest,
    ties_are_kept,
    sets_far_from_the_best,
    rows_without_a_choice,
    half_precision,
    logits_with_a_wider_stride,
    several_draws_unread,
    what_is_discarded_is_drawn_again,
    the_hosts_edits,
    forced_tokens_in_place_of_drawn_ones,
    a_full_row_grows_no_more,
    many_biases,
)

every_check = pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
