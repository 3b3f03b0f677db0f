"""What select scores is what transformers says of the same tokens, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import rootstream as rs
from rootstream.lang.calls import Result
from rootstream.lang.parts import Method

EXACT = 1e-4
BEFORE = "the quick brown fox jumps over"
CHOICES = [" the lazy dog", " forest", " and then it runs into the forest", " the other animals"]
CHAT_BEFORE = "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer(toy_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(toy_model / "tokenizer.json"))


@pytest.fixture(scope="module")
def oracle(toy_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32).eval()


@torch.inference_mode()
def said(oracle: Any, before: list[int], tokens: list[int]) -> np.ndarray:
    """The log-probability of each token; the first of all has none, and counts as nothing."""
    rows = oracle(torch.tensor([[*before, *tokens]])).logits[0].float().log_softmax(-1).numpy()
    whole = [*before, *tokens]
    return np.array([rows[at - 1][whole[at]] if at else 0.0 for at in range(len(before), len(whole))])


@rs.function
def choose(s: rs.State, method: Method) -> Result:
    s += BEFORE + rs.select("ending", CHOICES, method=method)
    return s.meta("ending")


@rs.function
def choose_in_chat(s: rs.State) -> Result:
    s += rs.user("what?") + rs.assistant(rs.select("ending", CHOICES))
    return s.meta("ending")


def conditional(oracle: Any, tokenizer: Tokenizer, before: str) -> list[np.ndarray]:
    ids: list[int] = tokenizer.encode(before).ids
    return [said(oracle, ids, tokenizer.encode(choice).ids) for choice in CHOICES]


def test_by_length(oracle: Any, tokenizer: Tokenizer) -> None:
    result = choose.run("token_length_normalized").returned
    expected = [scores.mean() for scores in conditional(oracle, tokenizer, BEFORE)]
    assert result.scores == pytest.approx(expected, abs=EXACT)
    assert (result.index, result.text) == (int(np.argmax(expected)), CHOICES[int(np.argmax(expected))])


def test_against_what_they_are_worth_by_themselves(oracle: Any, tokenizer: Tokenizer) -> None:
    result = choose.run("unconditional_likelihood_normalized").returned
    alone = [said(oracle, [], tokenizer.encode(choice).ids) for choice in CHOICES]
    pairs = zip(conditional(oracle, tokenizer, BEFORE), alone, strict=True)
    expected = [float((given - free).mean()) for given, free in pairs]
    assert result.scores == pytest.approx(expected, abs=EXACT)
    assert result.index == int(np.argmax(expected))


def test_as_a_greedy_model_would(oracle: Any, tokenizer: Tokenizer) -> None:
    """Token by token: of the choices that are left, those with the likeliest next token stay."""
    result = choose.run("greedy_token").returned
    scores = conditional(oracle, tokenizer, BEFORE)
    left = list(range(len(CHOICES)))
    depth = 0
    while len(left) > 1:
        nexts = {index: scores[index][depth] for index in left if depth < len(scores[index])}
        left = [index for index in left if index in nexts and nexts[index] == pytest.approx(max(nexts.values()))]
        depth += 1
    assert result.index == left[0]


def test_in_a_chat(oracle: Any, tokenizer: Tokenizer) -> None:
    result = choose_in_chat.run().returned
    expected = [scores.mean() for scores in conditional(oracle, tokenizer, CHAT_BEFORE)]
    assert result.scores == pytest.approx(expected, abs=EXACT)
