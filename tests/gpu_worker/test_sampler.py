"""The sampler draws from exactly the distribution that the parameters describe, reproducibly."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.sampler import sample, uniform
from shared.protocol import Sampling


class Row(NamedTuple):
    """A SamplingRow."""

    sampling: Sampling
    index: int = 0
    token_ids: np.ndarray = np.array([], dtype=np.int32)
    prompt_len: int = 0


def row(index: int = 0, prompt: tuple[int, ...] = (), output: tuple[int, ...] = (), **parameters: Any) -> Row:
    ids = np.array(prompt + output, dtype=np.int32)
    return Row(Sampling(max_tokens=100, **parameters), index, ids, len(prompt))


def draw(logits: Tensor, rows: list[Row]) -> list[int]:
    tokens, bad_rows = sample(logits.clone(), rows)
    assert not bad_rows
    return tokens.tolist()


def draws(logits: list[float], count: int, **parameters: Any) -> Counter[int]:
    """Tokens of ``count`` successive indices of one seed, many at once."""
    rows = [row(index, seed=11, **parameters) for index in range(count)]
    return Counter(draw(torch.tensor(logits).repeat(count, 1), rows))


def reference(logits: Tensor, row: Row) -> tuple[int, dict[int, float]]:
    """One row, written plainly in float64: the chosen token, and the probability of every token that may be drawn."""
    s, values = row.sampling, [float(v) for v in logits]
    output = Counter(row.token_ids[row.prompt_len :].tolist())
    for token in {*row.token_ids.tolist()}:
        v = values[token]
        values[token] = v / s.repetition_penalty if v > 0 else v * s.repetition_penalty
    for token, count in output.items():
        values[token] -= s.frequency_penalty * count + s.presence_penalty
    for token, bias in s.logit_bias:
        values[token] += bias
    if row.index < s.min_tokens:
        for token in s.stop_token_ids:
            values[token] = -math.inf
    if s.temperature == 0:
        return max(range(len(values)), key=lambda t: values[t]), {}
    top = max(values)
    weights = {t: math.exp((v - top) / s.temperature) for t, v in enumerate(values)}
    kept = dict(weights)
    if s.top_k:
        smallest = sorted(kept.values(), reverse=True)[: s.top_k][-1]
        kept = {t: w for t, w in kept.items() if w >= smallest}
    total, mass, smallest = sum(kept.values()), 0.0, 0.0
    if s.top_p < 1:
        for w in sorted(kept.values(), reverse=True):
            mass, smallest = mass + w, w
            if mass >= s.top_p * total:
                break
        kept = {t: w for t, w in kept.items() if w >= smallest}
    kept = {t: w for t, w in kept.items() if w >= s.min_p}
    total = sum(kept.values())
    target, mass, chosen = uniform(s.seed, row.index) * total, 0.0, 0
    for token, w in sorted(kept.items()):
        mass, chosen = mass + w, token
        if mass > target:
            break
    return chosen, {t: w / total for t, w in kept.items()}


def test_greedy_takes_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 4.9]])
    assert draw(logits, [row(temperature=0.0), row(temperature=0.0)]) == [1, 0]


def test_frequencies_are_those_of_the_softmax() -> None:
    probabilities = [0.5, 0.25, 0.125, 0.0625, 0.0625]
    found = draws([math.log(p) for p in probabilities], 8000)
    chi_square = sum((found[t] - 8000 * p) ** 2 / (8000 * p) for t, p in enumerate(probabilities))
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand; the seed is fixed


def test_temperature_sharpens() -> None:
    found = draws([math.log(0.5), math.log(0.25), math.log(0.25)], 6000, temperature=0.5)
    expected = [2 / 3, 1 / 6, 1 / 6]
    assert sum((found[t] - 6000 * p) ** 2 / (6000 * p) for t, p in enumerate(expected)) < 13.9


@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.76}, {0, 1, 2}),
        ({"min_p": 0.45}, {0, 1}),
        ({"min_p": 0.249}, {0, 1, 2}),
        ({"top_k": 3, "top_p": 0.85}, {0, 1}),  # of the 0.875 that top-k left
        ({"top_k": 3, "min_p": 0.4}, {0, 1}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_only_allowed_tokens_are_drawn_and_all_of_them(parameters: dict[str, Any], allowed: set[int]) -> None:
    logits = [math.log(p) for p in (0.5, 0.25, 0.125, 0.125 - 1e-3)]
    assert set(draws(logits, 300, **parameters)) == allowed


def test_ties_with_the_last_kept_token_are_kept() -> None:
    assert set(draws([2.0, 1.0, 1.0, 1.0, -9.0], 300, top_k=2)) == {0, 1, 2, 3}
    assert set(draws([2.0, 1.0, 1.0, 1.0, -9.0], 300, top_p=0.6)) == {0, 1, 2, 3}


@pytest.mark.parametrize("parameters", [{"top_p": 0.9}, {"top_k": 4000}, {"top_k": 4500, "top_p": 0.95}])
@pytest.mark.parametrize("steepness", [1.0, 30.0])
def test_sets_of_thousands_of_tokens(steepness: float, parameters: dict[str, Any]) -> None:
    """Far more than are near the best one, which is where truncation looks first."""
    vocab = 5000
    logits = torch.cat((torch.tensor([steepness]), torch.linspace(1, 0, vocab - 1)))
    logits[0] += 12 if steepness > 1 else 0
    rows = [row(index, seed=3, temperature=4.0, **parameters) for index in range(40)]
    found = draw(logits.repeat(len(rows), 1), rows)
    assert found == [reference(logits, one)[0] for one in rows]


@st.composite
def rows_and_logits(draw: st.DrawFn) -> tuple[Tensor, list[Row]]:
    vocab = draw(st.sampled_from([7, 200, 1000]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    tokens = st.integers(0, vocab - 1)
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 6))):
        sampling = Sampling(
            max_tokens=50,
            temperature=draw(st.sampled_from([0.0, 0.3, 1.0, 2.5])),
            top_k=draw(st.sampled_from([0, 1, 3, 150, 2000])),
            top_p=draw(st.sampled_from([1.0, 0.95, 0.5, 0.05])),
            min_p=draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])),
            repetition_penalty=draw(st.sampled_from([1.0, 1.3, 0.7])),
            frequency_penalty=draw(st.sampled_from([0.0, 0.5, -1.0])),
            presence_penalty=draw(st.sampled_from([0.0, 1.5, -0.5])),
            seed=draw(st.integers(0, 2**64 - 1)),
            logit_bias=tuple(draw(st.dictionaries(tokens, st.sampled_from([-100.0, 5.0]), max_size=3)).items()),
            min_tokens=draw(st.sampled_from([0, 4])),
            stop_token_ids=tuple(draw(st.sets(tokens, max_size=2))),
        )
        prompt, output = draw(st.lists(tokens, max_size=8)), draw(st.lists(tokens, max_size=8))
        rows.append(Row(sampling, len(output), np.array(prompt + output, dtype=np.int32), len(prompt)))
    return torch.randn(len(rows), vocab, generator=generator) * 3, rows


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rows_and_logits())
def test_every_row_agrees_with_the_plain_reference(case: tuple[Tensor, list[Row]]) -> None:
    logits, rows = case
    for token, one, its_logits in zip(draw(logits, rows), rows, logits, strict=True):
        chosen, allowed = reference(its_logits, one)
        if token != chosen:  # only where the draw falls on a border, to within rounding
            assert abs(token - chosen) > 0
            assert min(allowed.get(token, 0.0), allowed.get(chosen, 0.0)) > 0
            target = uniform(one.sampling.seed, one.index)
            below = sum(p for t, p in allowed.items() if t <= min(token, chosen))
            assert abs(below - target) < 1e-5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows_and_logits(), st.randoms(use_true_random=False))
def test_neighbours_and_order_change_nothing(case: tuple[Tensor, list[Row]], shuffler: Any) -> None:
    logits, rows = case
    together = draw(logits, rows)
    assert [draw(logits[n : n + 1], [one])[0] for n, one in enumerate(rows)] == together
    order = list(range(len(rows)))
    shuffler.shuffle(order)
    assert draw(logits[order], [rows[n] for n in order]) == [together[n] for n in order]


def test_draws_depend_on_seed_and_index_alone() -> None:
    values = [uniform(seed, index) for seed in (0, 1, 2**64 - 1) for index in range(300)]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 1 for value in values)
    assert abs(sum(values) / len(values) - 0.5) < 0.03
    assert uniform(42, 7) == 0.6309061697585138  # resumed requests, and other releases, must draw the same


def test_stop_tokens_cannot_come_before_min_tokens() -> None:
    logits = torch.tensor([[1.0, 9.0, 0.0]])
    parameters = {"temperature": 0.0, "min_tokens": 3, "stop_token_ids": (1, 999)}
    assert draw(logits, [row(2, **parameters)]) == [0]
    assert draw(logits, [row(3, **parameters)]) == [1]


def test_rows_that_are_not_numbers_are_reported_and_the_others_drawn() -> None:
    nan, inf = float("nan"), float("inf")
    logits = torch.tensor([[0.0, nan, 1.0], [0.0, 5.0, 1.0], [inf, 0.0, 0.0], [-inf, -inf, -inf], [0.0, 2.0, 9.0]])
    for temperature in (0.0, 0.1):
        tokens, bad_rows = sample(logits.clone(), [row(temperature=temperature, top_p=0.9) for _ in range(5)])
        assert bad_rows == [0, 2, 3]
        assert tokens.tolist() == [0, 1, 0, 0, 2]


def test_a_bias_outside_the_vocabulary_spoils_only_its_row() -> None:
    rows = [row(temperature=0.0, logit_bias=((70, 1.0),)), row(temperature=0.0, logit_bias=((0, 50.0),))]
    tokens, bad_rows = sample(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), rows)
    assert bad_rows == [0]
    assert tokens[1] == 0


def test_extreme_temperatures() -> None:
    logits = torch.tensor([[100.0, 99.0, -1e30]])
    assert draw(logits, [row(temperature=1e-9)]) == [0]
    assert draw(logits, [row(temperature=1e-4)]) == [0]
    assert len(set(draws([3.0, 0.0, -3.0], 100, temperature=1e6))) == 3
