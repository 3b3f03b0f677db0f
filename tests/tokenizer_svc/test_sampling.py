"""Sampling fields resolved without HTTP: defaults, seeds, and that no accepted value leaves its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol import Generate, Grammar, Jump, Sampling, Scoring, decode, encode
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.limits import Limits
from tokenizer_svc.sampling import Bounds, Choosing, SamplingFields, Vocabulary, resolve

LIMITS = Limits()
VOCABULARY = Vocabulary(100, (2, 3))


def resolved(
    seed: int | None = None,
    min_tokens: int | None = None,
    grammar: Grammar | None = None,
    scoring: Scoring | None = None,
    **fields: Any,
) -> Choosing:
    return resolve(
        SamplingFields(**fields),
        Bounds(),
        LIMITS,
        VOCABULARY,
        max_tokens=10,
        min_tokens=min_tokens,
        seed=seed,
        include_stop=False,
        grammar=grammar,
        scoring=scoring,
    )


def test_defaults_are_those_of_the_protocol() -> None:
    choosing = resolved(seed=5)
    assert choosing.sampling == Sampling(max_tokens=10, seed=5, stop_token_ids=(2, 3))
    assert choosing.n == 1


@pytest.mark.parametrize(("seed", "index", "expected"), [(5, 2, 7), (-1, 0, 2**64 - 1), (-1, 1, 0), (2**64 - 1, 2, 1)])
def test_seeds_count_up_in_64_bits(seed: int, index: int, expected: int) -> None:
    assert resolved(seed=seed).seeded(index).seed == expected


@pytest.mark.parametrize(("temperature", "expected"), [(0, 0), (1e-9, 0), (1e-4, 1e-4), (2, 2)])
def test_hardly_any_temperature_is_greedy(temperature: float, expected: float) -> None:
    assert resolved(temperature=temperature).sampling.temperature == expected


@pytest.mark.parametrize(("top_k", "expected"), [(-1, 0), (0, 0), (99, 99), (100, 0), (10**6, 0)])
def test_top_k_of_everything_is_off(top_k: int, expected: int) -> None:
    assert resolved(top_k=top_k).sampling.top_k == expected


def test_stop_ids_are_eos_and_the_clients_once() -> None:
    assert resolved(stop_token_ids=[3, 9, 9]).sampling.stop_token_ids == (2, 3, 9)
    assert resolved(stop_token_ids=[3, 9, 9], ignore_eos=True).sampling.stop_token_ids == (3, 9)
    assert resolved(stop_token_ids=[3, 9, 9], ignore_eos=True).display.stop_token_ids == (3, 9)


def test_stops_may_be_ids() -> None:
    choosing = resolved(stop=["a", 7, "b", 3], stop_token_ids=[9, 7])
    assert choosing.display.stop == ("a", "b")
    assert choosing.sampling.stop_token_ids == choosing.display.stop_token_ids == (2, 3, 9, 7)
    assert resolved(stop=8).sampling.stop_token_ids == (2, 3, 8)


def test_stop_ids_beyond_the_vocabulary_are_harmless() -> None:
    assert resolved(stop_token_ids=[100, 99, 2**31 - 1]).sampling.stop_token_ids == (2, 3, 99)


def test_stops_stay_in_the_text_by_either_name() -> None:
    assert resolved(no_stop_trim=True).display.include_stop
    assert not resolved().display.include_stop


def test_a_scored_answer_is_drawn_token_by_token() -> None:
    scoring = Scoring(3, 1)
    sampling = resolved(scoring=scoring, grammar=Grammar("k", Jump.CANONICAL)).sampling
    assert (sampling.scoring, sampling.grammar) == (scoring, Grammar("k", Jump.OFF))
    assert resolved(grammar=Grammar("k", Jump.EXACT)).sampling.grammar == Grammar("k", Jump.EXACT)


anything = st.floats(allow_nan=True) | st.integers(-5, 5)


@settings(deadline=None)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "temperature": anything,
            "top_p": anything,
            "top_k": st.integers(-(2**40), 2**40),
            "min_p": anything,
            "n": st.integers(-3, 100),
            "frequency_penalty": anything,
            "presence_penalty": anything,
            "repetition_penalty": anything,
            "logit_bias": st.dictionaries(st.integers(-2, 120).map(str), anything, max_size=3),
            "stop_token_ids": st.lists(st.integers(-2, 120), max_size=3),
            "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=20),
        },
    ),
    seed=st.integers(-(2**70), 2**70) | st.none(),
    min_tokens=st.integers(-2, 12) | st.none(),
)
def test_what_is_accepted_is_in_bounds_and_travels(
    fields: dict[str, Any], seed: int | None, min_tokens: int | None
) -> None:
    refused: ApiError | None = None
    try:
        choosing = resolved(seed=seed, min_tokens=min_tokens, **fields)
    except ApiError as error:
        refused = error
    if refused is not None:
        assert refused.status == 400
        assert refused.body.param in {*fields, "seed", "min_tokens"}
        return
    sampling = choosing.sampling
    assert 0 <= sampling.temperature <= 2
    assert 0 < sampling.top_p <= 1
    assert 0 <= sampling.top_k < VOCABULARY.size
    assert 0 <= sampling.min_p <= 1
    assert abs(sampling.frequency_penalty) <= 2
    assert abs(sampling.presence_penalty) <= 2
    assert 0 < sampling.repetition_penalty <= 10
    assert 0 <= sampling.seed < 2**64
    assert 0 <= sampling.min_tokens <= sampling.max_tokens
    assert all(0 <= id < VOCABULARY.size and abs(bias) <= 100 for id, bias in sampling.logit_bias)
    assert all(0 <= id < VOCABULARY.size for id in sampling.stop_token_ids)
    assert all(choosing.display.stop)
    assert 1 <= choosing.n <= 64
    generate = Generate(1 << 62, b"", sampling, "", 0, "t", "d", 0.0)
    assert decode(encode(generate)) == generate
