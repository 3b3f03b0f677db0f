"""The compiled automata: well-formed UTF-8 only, no dead ends, the smallest there is, within bounds."""

from __future__ import annotations

import functools
import re
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.grammar import START, Tables, tables
from tests.tokenizer_svc.grammar.form import check_form
from tests.tokenizer_svc.grammar.patterns import pattern
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import (
    MAX_CODE_POINT,
    Chars,
    Node,
    normalised,
)
from tokenizer_svc.grammar.regex import parse

SMALL = GrammarLimits(dfa_states=2000)


@functools.cache
def compiled(node: Node | str) -> Tables:
    return tables(compile_dfa(parse(node) if isinstance(node, str) else node))


def random_automata(seed: int, count: int) -> list[Tables]:
    rng = Random(seed)
    found: list[Tables] = []
    while len(found) < count:
        try:
            found.append(tables(compile_dfa(parse(pattern(rng)), SMALL)))
        except GrammarError:
            continue
    return found


# --- bytes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_code_point() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The UTF-8 of every code point, padded to four bytes, with lengths, and the code points."""
    points = np.array([p for p in range(MAX_CODE_POINT + 1) if not 0xD800 <= p <= 0xDFFF])
    spelt = [chr(p).encode() for p in points]
    padded = np.frombuffer(b"".join(s.ljust(4, b"\0") for s in spelt), np.uint8).reshape(-1, 4)
    return padded, np.array([len(s) for s in spelt]), points


@pytest.mark.parametrize("seed", range(12))
def test_a_set_of_code_points_is_spelt_exactly(
    seed: int, every_code_point: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
) -> None:
    rng = Random(seed)
    edges = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0xFFFFF, MAX_CODE_POINT)
    bounds = [rng.choice((rng.choice(edges), rng.randrange(0x3000), rng.randint(0, MAX_CODE_POINT))) for _ in range(8)]
    ranges = normalised(
        [
            (min(pair), max(pair) if seed % 2 else min(pair) + seed)
            for pair in zip(bounds[::2], bounds[1::2], strict=True)
        ]
    )
    automaton = compiled(Chars(ranges))
    padded, lengths, points = every_code_point
    states = np.full(len(points), START, np.uint16)
    for place in range(4):
        stepped = automaton.transitions[states, automaton.classes[padded[:, place]]]
        states = np.where(lengths > place, stepped, states)
    expected = np.zeros(len(points), np.bool_)
    for low, high in ranges:
        expected |= (points >= low) & (points <= high)
    assert np.array_equal(automaton.accepting[states], expected)


ILL_FORMED = [
    *(
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xc2\x41",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
    ),
    *(b"\xed\xbf\xbf", b"\xef\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80"),
    *(b"\xff", b"\xfe", b"\xf8\x88\x80\x80\x80", b"a\x80", b"\xe2\x98\x83\x83", b"\xed\xa0\xbd\xed\xb8\x80"),
]


@pytest.mark.parametrize("data", ILL_FORMED)
def test_bytes_that_are_no_utf8_are_never_accepted(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        data.decode()
    for source in (r"[\s\S]*", r".*", r"[^a]*", r"\W+", "(?:a|[^a])*", "[\ud7ff-\ue000]*"):
        assert not compiled(source).matches(data), source


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    st.binary(max_size=6)
    | st.text(max_size=4).map(str.encode).flatmap(lambda s: st.integers(0, 3).map(lambda n: s[n:]))
)
def test_any_text_is_all_of_utf8(data: bytes) -> None:
    try:
        data.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert compiled(r"[\s\S]*").matches(data) == valid


# --- form ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_automata_have_no_dead_ends_and_no_two_states_alike(seed: int) -> None:
    for automaton in random_automata(seed, 40):
        check_form(automaton)


@pytest.mark.parametrize(
    ("source", "states"),
    [
        ("abc", 4),
        ("a*", 1),
        ("(ab)*", 2),
        ("(?:a|b)*abb", 4),
        ("x(?:aab|bab|cab)y", 6),
        ("(?:foo|bar)[0-9]*|(?:foo|bar)[0-9]*", 6),
        ("a(?:xy)*|b(?:xy)*", 3),
        (r"\d{4}-\d{2}", 8),
        ("a{0,50}", 51),
        ("[é]", 3),
        ("é|è|ê", 3),
    ],
)
def test_states_with_equal_continuations_are_one(source: str, states: int) -> None:
    assert len(compiled(source).accepting) == states + 1  # the dead one


def test_the_same_tree_gives_the_same_bytes() -> None:
    source = r'\{"a": (?:"[^"\\]*"|null), "b": (?:[0-9]+|true|false|☃)\}'
    assert compile_dfa(parse(source)) == compile_dfa(parse(source))


def test_an_automaton_of_many_states_is_the_smallest() -> None:
    string = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-f]{4}){0,20}"'
    fields = ", ".join(f'"field_{i}": (?:{string}|null|[1-9][0-9]*)' for i in range(6))
    automaton = compiled(rf"\[(?:\{{{fields}\}}(?:, \{{{fields}\}})*)?\]")
    assert len(automaton.accepting) > 1000
    check_form(automaton)


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "bound"),
    [
        ("(?:a{1000}){1000}", "more than 60000 states before"),
        ("(?:(?:(?:a{4096}){4096}){4096}b){4096}", "more than 60000 states before"),
        ("(?:a|b)*a(?:a|b){20}", "more than 20000 states once"),
        (".{0,500}x.{0,500}", "more than 20000 states once"),
        ("[^x]{4000}", "more than 20000 states once"),
        ("(?:a?b?c?){0,2000}", "more than 2000000 moves"),
        ("a?b?" * 10_000, "more than 2000000 moves"),
        ("|".join(f"[{chr(256 + 3 * i)}-{chr(4096 + 5 * i)}]x{i}" for i in range(1000)), "more than 2000000 moves"),
    ],
)
def test_automata_that_grow_too_large_are_refused(source: str, bound: str) -> None:
    with pytest.raises(GrammarError, match=bound):
        compile_dfa(parse(source))


def test_bounds_are_inclusive() -> None:
    assert len(compiled("a{9}").accepting) == 11
    compile_dfa(parse("a{9}"), GrammarLimits(dfa_states=10))
    with pytest.raises(GrammarError, match="more than 9 states once"):
        compile_dfa(parse("a{9}"), GrammarLimits(dfa_states=9))
    compile_dfa(parse("a{9}"), GrammarLimits(nfa_states=11))
    with pytest.raises(GrammarError, match="more than 10 states before"):
        compile_dfa(parse("a{9}"), GrammarLimits(nfa_states=10))


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("(?:a?){4096}", "a{0,4096}"),
        ("(?:(?:a?){60}){60}", "a{0,3600}"),
        ("(?:(?:a*)*){3,900}", "a*"),
        ("(?:(?:)|(?:)){4096}", ""),
        ("(?:(?:){4096}){4096}", ""),
        ("(?:" * 30 + "){4}" * 30, ""),
        ("(?:a?" * 30 + ")*" * 30, "a*"),
        ("(?:a*" * 30 + ")?" * 30, "a*"),
        ("(?:a+" * 5 + "){1,3}" * 5, "a{5,}"),
    ],
)
def test_repetitions_of_what_may_be_empty_stay_small(source: str, same: str) -> None:
    automaton = compiled(source)
    assert len(automaton.accepting) < 4100
    for text in ("", "a", "a" * 4, "a" * 5, "a" * 60, "a" * 3599, "a" * 3600, "a" * 4096, "a" * 4097):
        assert automaton.matches(text.encode()) == (re.fullmatch(same, text) is not None)
