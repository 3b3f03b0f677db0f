"""What answers have cost so far, as logs tell it."""

from __future__ import annotations

from typing import Any

from tokenizer_svc.answers import Answer


def account_of(*answers: Answer) -> dict[str, Any]:
    """The ids of their sequences, under which other processes speak of them, and their tokens. Never a word of them."""
    choices = [choice for answer in answers for choice in answer.choices]
    return {
        "ids": [f"{choice.id:016x}" for choice in choices],
        "prompt_tokens": sum(choice.prompt_tokens for choice in choices),
        "cached_tokens": sum(choice.cached_tokens for choice in choices),
        "completion_tokens": sum(choice.completion_tokens for choice in choices),
    }
