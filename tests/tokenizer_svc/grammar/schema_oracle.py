"""Compiled schemas as tests use them: asked whether they admit a text, walked at random, checked against jsonschema."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import datetime, time
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from llguidance import LLMatcher

from shared.grammar import DEAD, START, Dfa, Guidance, Tables, tables
from tokenizer_svc.grammar.lark import byte_vocabulary

END_OF_BYTES = 256
_CLOSING = b'"}]0123456789abcdeE-:,. '  # what tends to end a value

FORMATS = FormatChecker(())
"""Only formats that are checked here, each by a way that has nothing to do with ours."""
FORMATS.checkers.update(
    {name: FormatChecker.checkers[name] for name in ("date", "email", "ipv4", "ipv6", "uuid", "idn-email")}
)


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or time.fromisoformat(value).tzinfo is not None


@FORMATS.checks("duration")
def _is_duration(value: object) -> bool:
    parts = r"P(?=[0-9T])(\d+Y)?(\d+M)?(\d+D)?(T(?=[0-9])(\d+H)?(\d+M)?(\d+S)?)?|P\d+W"
    return not isinstance(value, str) or re.fullmatch(parts, value, re.ASCII) is not None


@FORMATS.checks("hostname")
def _is_host(value: object) -> bool:
    labels = value.split(".") if isinstance(value, str) else []
    return all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label, re.ASCII) for label in labels)


@FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    if not isinstance(value, str):
        return True
    parts = urlsplit(value)
    return bool(parts.scheme) and _is_host(parts.hostname) and (parts.port or 0) < 65536 and value.isascii()


def validator(schema: Any) -> Validator:
    """For the draft that the schema names, 2020-12 by default."""
    return validator_for(schema, default=Draft202012Validator)(schema, format_checker=FORMATS)


def acceptor(grammar: Dfa | Guidance) -> Callable[[str], bool]:
    """Whether a text is in the language."""
    if isinstance(grammar, Dfa):
        automaton = tables(grammar)
        return lambda text: automaton.matches(text.encode("utf-8", "surrogatepass"))
    matcher = LLMatcher(byte_vocabulary(), grammar.grammar)
    assert not matcher.is_error(), matcher.get_error()

    def accepts(text: str) -> bool:
        assert matcher.reset()
        data = list(text.encode("utf-8", "surrogatepass"))
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()

    return accepts


def walks(grammar: Dfa | Guidance, seed: int, count: int) -> Iterator[str]:
    """Random texts of the language. Those of a grammar that does not come to an end by itself are left out."""
    rng = random.Random(seed)
    step = _automaton_walk(tables(grammar), rng) if isinstance(grammar, Dfa) else _matcher_walk(grammar, rng)
    for _ in range(count):
        text = step()
        if text is not None:
            yield text.decode()


def _automaton_walk(automaton: Tables, rng: random.Random) -> Callable[[], bytes]:
    """From a while on, the shortest way to the end."""
    states = np.arange(len(automaton.accepting))
    distance = np.where(automaton.accepting, 0, len(states))
    distance[DEAD] = 2 * len(states)
    for _ in states:
        nearer = np.minimum(distance, distance[automaton.transitions].min(axis=1) + 1)
        nearer[DEAD] = distance[DEAD]
        if (nearer == distance).all():
            break
        distance = nearer
    spelt = [np.flatnonzero(automaton.classes == index).tolist() for index in range(automaton.transitions.shape[1])]

    @cache
    def ways(state: int) -> list[int]:
        return [index for index, to in enumerate(automaton.transitions[state]) if to != DEAD]

    def walk() -> bytes:
        text = bytearray()
        state, patience = START, rng.randrange(200)
        while True:
            row = automaton.transitions[state]
            going = ways(state)
            if automaton.accepting[state] and (not going or len(text) > patience or rng.random() < 0.3):
                return bytes(text)
            if len(text) > patience:
                nearest = min(int(distance[row[index]]) for index in going)
                going = [index for index in going if distance[row[index]] == nearest]
            chosen = rng.choice(going)
            text.append(rng.choice(spelt[chosen]))
            state = int(row[chosen])

    return walk


def _matcher_walk(grammar: Guidance, rng: random.Random) -> Callable[[], bytes | None]:
    matcher = LLMatcher(byte_vocabulary(), grammar.grammar)

    def walk() -> bytes | None:
        assert matcher.reset()
        text = bytearray()
        patience = rng.randrange(120)
        for _ in range(2000):
            mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")[:END_OF_BYTES]).tolist()
            if matcher.is_accepting() and (not allowed or len(text) > patience or rng.random() < 0.3):
                return bytes(text)
            if len(text) > patience:
                allowed = [byte for byte in _CLOSING if byte in allowed][: 1 + rng.randrange(2)] or allowed
            chosen = rng.choice(allowed)
            assert matcher.consume_token(chosen), matcher.get_error()
            text.append(chosen)
        return None

    return walk


def spellings(value: Any) -> list[str]:
    """A value as common printers write it."""
    styles: list[dict[str, Any]] = [
        {"separators": (", ", ": ")},
        {"separators": (",", ":")},
        {"indent": 2},
        {"indent": 4},
    ]
    return [json.dumps(value, ensure_ascii=ascii, **style) for style in styles for ascii in (False, True)]
