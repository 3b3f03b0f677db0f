"""Choices scored through APIs that score prompts: how to ask, and which tokens are the choice's. Pure.

A choice's tokens are those in which the text with it differs from the text without: what a tokenizer makes of the end
of a text depends on what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rootstream.lang.calls import CallError


class Token(NamedTuple):
    """One of a prompt: its name or id, and its natural log-probability, None for the first."""

    name: str
    logprob: float | None


def of_echo(logprobs: Any, length: int) -> list[Token]:
    """The tokens of an echoed prompt of so many characters; there may be generated ones after them.

    Raises CallError where there are none.
    """
    if not isinstance(logprobs, dict) or not logprobs.get("tokens"):
        raise CallError("the server echoes prompts without their log-probabilities")
    names, values = logprobs["tokens"], logprobs["token_logprobs"]
    offsets = logprobs.get("text_offset") or [0] * len(names)
    return [Token(name, value) for name, value, at in zip(names, values, offsets, strict=True) if at < max(length, 1)]


def of_prompt_logprobs(entries: Sequence[dict[str, Any] | None] | None) -> list[Token]:
    """Of vLLM's field, where it was asked for no other tokens than the prompt's. Raises CallError."""
    if not entries:
        raise CallError("the server gives no log-probabilities of prompts")
    found: list[Token] = []
    for entry in entries:
        if entry is None:
            found.append(Token("", None))
            continue
        id, value = next(iter(entry.items()))
        found.append(Token(id, value["logprob"]))
    return found


def own(base: Sequence[Token], whole: Sequence[Token]) -> list[Token]:
    """The tokens of ``whole`` in which it differs from ``base``; at least one."""
    shared = 0
    for ours, theirs in zip(base, whole, strict=False):
        if ours.name != theirs.name:
            break
        shared += 1
    return list(whole[min(shared, len(whole) - 1) :])


def logprobs(tokens: Sequence[Token]) -> list[float]:
    """0 for the first of all tokens, which follows nothing."""
    return [0.0 if token.logprob is None else token.logprob for token in tokens]


def token_ids(tokens: Sequence[Token]) -> list[int]:
    """Where names are ids, as vLLM's `return_tokens_as_token_ids` or `prompt_logprobs` has them."""
    return [int(token.name.removeprefix("token_id:")) for token in tokens]
