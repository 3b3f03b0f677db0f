"""The dialect against Python's own ``re``: what we accept means the same there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import Tables, tables
from tests.tokenizer_svc.grammar.patterns import pattern, texts
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import Node
from tokenizer_svc.grammar.regex import parse

PATTERNS = 2000
RUNS = 10
TEXTS = 100
SMALL = GrammarLimits(dfa_states=3000)
LONGEST = 10  # code points, because re takes exponential time on some patterns


def python(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of sets in sets: what they mean today is what we mean
        return re.compile(pattern, re.ASCII)


def automaton(node: Node) -> Tables | None:
    """None where nothing matches; raises TooLarge where the states explode, as they may."""
    try:
        return tables(compile_dfa(node, SMALL))
    except GrammarError as error:
        if "no text at all" not in str(error):
            raise TooLarge from error
        return None


class TooLarge(Exception):
    pass


def accepted(compiled: Tables | None, candidates: list[str]) -> list[str]:
    return [text for text in candidates if compiled and compiled.matches(text.encode())]


def valid_patterns(rng: Random) -> Iterator[str]:
    while True:
        source = pattern(rng)
        try:
            python(source)
        except re.error:  # what stands next to each other in brackets may be half a range
            continue
        yield source


@pytest.mark.parametrize("seed", range(RUNS))
def test_random_patterns_match_what_python_matches(seed: int) -> None:
    rng = Random(seed)
    tested = matched = too_large = 0
    for source in valid_patterns(rng):
        node = parse(source)
        try:
            compiled = automaton(node)
        except TooLarge:
            too_large += 1
            continue
        candidates = texts(node, rng, TEXTS, LONGEST)
        expected = [text for text in candidates if python(source).fullmatch(text)]
        assert accepted(compiled, candidates) == expected, source
        matched += len(expected)
        tested += 1
        if tested == PATTERNS // RUNS:
            break
    assert too_large < 0.03 * tested
    assert 0.2 < matched / (tested * TEXTS) < 0.8, "texts that all match, or none, test little"


def check_same(source: str, candidates: list[str]) -> bool:
    """Whether we accept the pattern; if so Python must accept it too, with the same matches."""
    try:
        node = parse(source)
    except GrammarError:
        return False
    theirs = python(source)
    assert accepted(automaton(node), candidates) == [text for text in candidates if theirs.fullmatch(text)], source
    return True


SYNTAX = "[]{}()|*+?^$\\ab1,-.&~\n:P<#>dwsAZé"


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.text(SYNTAX, max_size=10), st.lists(st.text(SYNTAX + "\U0001f600", max_size=4), max_size=12))
def test_any_text_that_is_accepted_as_a_pattern_means_the_same_in_python(source: str, candidates: list[str]) -> None:
    check_same(source, [*candidates, *source, source])


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    st.text("[]^--\\ab0&~|dws[é:.", max_size=7), st.lists(st.text("[]^-\\ab0&~|dws[é:. \x08", max_size=3), max_size=20)
)
def test_every_class_that_python_accepts_is_accepted(members: str, candidates: list[str]) -> None:
    source = f"[{members}]"
    try:
        python(source)
    except re.error:
        assert not check_same(source, [])
        return
    outside = r"\b" in re.sub(r"\[\^?.(?:[^\]\\]|\\.)*\]", "", source, flags=re.DOTALL) or "^" in members[1:]
    assert check_same(source, candidates) or outside


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.text("a(b)|{{}},,123*+?", max_size=9), st.lists(st.text("ab{},123", max_size=6), max_size=20))
def test_repetitions_and_literal_braces_are_read_as_in_python(source: str, candidates: list[str]) -> None:
    try:
        python(source)
    except re.error:
        assert not check_same(source, [])
        return
    assert check_same(source, candidates) or "+" in source  # possessive
