"""A sequence to generate, as it comes out of validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from shared.protocol import Sampling, StopRegex
from tokenizer_svc.structure import Structure


class Display(NamedTuple):
    """How generated tokens become text."""

    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    stop_regex: tuple[StopRegex, ...] = ()
    skip_special_tokens: bool = True


class Draft(NamedTuple):
    """One sequence to generate, validated."""

    prompt: int  # which prompt of the HTTP request
    input_ids: Sequence[int]
    sampling: Sampling
    display: Display
    namespace: str  # cache_salt; the caller's own namespace is made of it
    priority: int
    structure: Structure | None = None  # what its output obeys; ``sampling`` names it, too
    timeout_s: float = 0.0  # after which nobody wants an answer; 0: never
    names: tuple[str, ...] = ()  # that its client gave it
    group: str = ""  # with whom it shares its beginning and its time, a name that no other tenant has
    context: str = ""  # likewise, of the context that it is kept for


def within(draft: Draft, max_tokens: int) -> Draft:
    """The same sequence with at most so many tokens."""
    most = min(draft.sampling.max_tokens, max_tokens)
    return draft._replace(sampling=msgspec.structs.replace(draft.sampling, max_tokens=most))
