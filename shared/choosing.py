"""Which of several texts a model finds likeliest, from the log-probabilities of their tokens. Pure.

The three methods, and their names, are those of SGLang's frontend language (lang/choices.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

Method = Literal["token_length_normalized", "greedy_token", "unconditional_likelihood_normalized"]
METHODS: tuple[Method, ...] = get_args(Method)

Logprobs = Sequence[float]
"""Of the tokens of one choice."""


class Chosen(NamedTuple):
    """The choice, and what every choice scored."""

    best: int
    scores: list[float]


def choose(method: Method, conditional: Sequence[Logprobs], unconditional: Sequence[Logprobs] = ()) -> Chosen:
    """The best choice, of equals the first. Every choice has at least one token.

    ``unconditional``: of the same tokens with nothing before them, 0 for the first; for the method that wants them.
    """
    match method:
        case "token_length_normalized":
            return _best([_mean(each) for each in conditional])
        case "greedy_token":
            return Chosen(_greedy(conditional), [_mean(each) for each in conditional])
        case "unconditional_likelihood_normalized":
            pairs = zip(conditional, unconditional, strict=True)
            return _best([_mean([a - b for a, b in zip(own, alone, strict=True)]) for own, alone in pairs])


def _best(scores: list[float]) -> Chosen:
    return Chosen(max(range(len(scores)), key=scores.__getitem__), scores)


def _mean(values: Logprobs) -> float:
    return sum(values) / len(values)


def _greedy(conditional: Sequence[Logprobs]) -> int:
    """Token by token those with the likeliest go on; who is over already goes on with the mean of its own."""
    means = [_mean(each) for each in conditional]
    left = list(range(len(conditional)))
    for at in range(max(map(len, conditional))):
        here = {i: conditional[i][at] if at < len(conditional[i]) else means[i] for i in left}
        most = max(here.values())
        left = [i for i in left if here[i] == most]
        if len(left) == 1:
            break
    return left[0]
