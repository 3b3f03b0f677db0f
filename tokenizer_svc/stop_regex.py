"""Regular expressions that end an answer: compiled here, at the door, and obeyed by the detokenizer.

Compiled in the process itself, within bounds that take milliseconds at most: a pattern that needs more is no stop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from shared.grammar import START, tables
from shared.protocol import StopRegex
from tokenizer_svc.api_error import invalid
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.regex import parse_within

STOP_REGEX_LIMITS = GrammarLimits(
    regex_bytes=512, depth=16, repeat=100, nfa_states=2_000, nfa_moves=10_000, dfa_states=500
)
_REMEMBERED = 256


def read_stop_regex(asked: str | Sequence[str] | None, most: int, param: str) -> tuple[StopRegex, ...]:
    """What the field asks for. Raises ApiError 400."""
    patterns = [asked] if isinstance(asked, str) else asked or []
    if len(patterns) > most:
        raise invalid(f"{param} has {len(patterns)} patterns, at most {most} are allowed", param)
    return tuple(_compiled(pattern, param) for pattern in dict.fromkeys(patterns))


def _compiled(pattern: str, param: str) -> StopRegex:
    try:
        return _compile(pattern)
    except GrammarError as error:
        raise invalid(f"{param}: {error}", param, "invalid_regex") from error


@functools.lru_cache(_REMEMBERED)
def _compile(pattern: str) -> StopRegex:
    dfa = compile_dfa(parse_within(pattern, STOP_REGEX_LIMITS), STOP_REGEX_LIMITS)
    if tables(dfa).accepting[START]:
        raise GrammarError("the pattern matches the empty text, which would end every answer")
    return StopRegex(pattern, dfa.classes, dfa.transitions, dfa.accepting)
