"""What is refused, where, and what the client is told to do instead."""

from __future__ import annotations

import re

import pytest

from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.regex import parse, parse_search

REFUSED = [
    (r"a(?=b)", 1, "look-ahead"),
    (r"a(?!b)", 1, "look-ahead"),
    (r"(?<=a)b", 0, "look-behind"),
    (r"(?<!a)b", 0, "look-behind"),
    (r"(a)\1", 3, "back-references"),
    (r"(?P<x>a)(?P=x)", 8, "back-references"),
    (r"ab\b", 2, "word boundaries"),
    (r"ab\B", 2, "word boundaries"),
    (r"(a)?(?(1)b|c)", 4, "conditionals"),
    (r"(?>a)", 0, "atomic"),
    (r"ab*+", 3, "possessive"),
    (r"ab{2}+", 5, "possessive"),
    (r"(?i)a", 0, "inline flags"),
    (r"(?s:.)", 0, "inline flags"),
    (r"é\N{DIGIT ONE}", 1, "by name"),
    (r"a\q", 1, r"\q is no escape"),
    (r"x\p{L}", 1, "Unicode properties"),
    ("abc\\", 3, "backslash"),
    (r"\x4", 0, "2 hexadecimal digits"),
    (r"a\u12", 1, "4 hexadecimal digits"),
    (r"\U00110000", 0, "0010FFFF"),
    (r"\ud83d", 0, "surrogate"),
    ("a\ud83d", 1, "surrogate"),
    (r"[\ud800-\udfff]", 0, "surrogates"),
    (r"[\400]", 1, "octal"),
    (r"ab[cd", 2, "no closing bracket"),
    (r"[b-a]", 1, "ends before it starts"),
    (r"a[\w-z]", 2, "needs one character at each end"),
    (r"a**", 2, "multiple repeat"),
    (r"a{2}{3}", 4, "multiple repeat"),
    (r"a??*", 3, "multiple repeat"),
    (r"|*", 1, "nothing to repeat"),
    (r"^*", 1, "nothing to repeat"),
    (r"(?#x)+", 5, "nothing to repeat"),
    (r"a{3,2}", 1, "exchange the bounds"),
    (r"a{4097}", 1, "at most 4096"),
    (r"a{1,99999999999999999999999}", 1, "at most 4096"),
    (r"(a", 0, "never closed"),
    (r"a(?#", 1, "never closed"),
    (r"a)b", 1, "unbalanced"),
    (r"(?P<1>a)", 4, "identifier"),
    (r"(?P<n>a)(?P<n>b)", 12, "another group"),
    (r"(?<n>a)", 0, "extensions"),
    (r"a$b", 1, "only at the end"),
    (r"a^b", 1, "only at the start"),
    (r"a$\n", 1, "only at the end"),
    (r"(a$)*", 2, "cannot be repeated"),
    (r"(^a)+b", 1, "cannot be repeated"),
    (r"a(b|\Zc)", 4, "only at the end"),
]


@pytest.mark.parametrize(("source", "position", "words"), REFUSED)
def test_what_is_refused_is_named_with_its_position(source: str, position: int, words: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(f"(at character {position})")) as refusal:
        parse(source)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "position", "words"),
    [
        (r"^a\Z", 2, "write ^ or $"),
        (r"a(?=b)", 1, "look-ahead"),
        (r"\p{Letter}", 0, "Unicode properties"),
        (r"(a)\1", 3, "back-references"),
        (r"(?<n>a)\k<n>", 7, "back-references"),
        (r"\u{110000}", 0, "at most 10FFFF"),
        (r"\a", 0, "no escape"),
        (r"\01", 0, "no escape"),
        (r"\ude00", 0, "surrogate"),
        (r"[\ud83d]", 0, "surrogates"),
        (r"a^b", 1, "only at the start"),
        (r"(?#x)", 0, "extensions"),
        (r"a**", 2, "multiple repeat"),
    ],
)
def test_what_search_refuses_is_named_with_its_position(source: str, position: int, words: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(f"(at character {position})")) as refusal:
        parse_search(source)
    assert words in str(refusal.value)


def test_bounds_are_checked_while_parsing() -> None:
    limits = GrammarLimits(regex_bytes=10, depth=3, repeat=5)
    parse("((()))", limits)
    with pytest.raises(GrammarError, match=r"deeper than 3.*character 3"):
        parse("(((())))", limits)
    parse("a{5}", limits)
    with pytest.raises(GrammarError, match="repetition of 6; at most 5"):
        parse("a{,6}", limits)
    parse("é" * 5, limits)
    with pytest.raises(GrammarError, match="has 11 bytes; at most 10"):
        parse("é" * 5 + "a", limits)


@pytest.mark.parametrize("source", [r"[^\s\S]", r"a[^\x00-\U0010FFFF]", r"(?:[^\d\D])+"])
def test_a_pattern_that_matches_nothing_is_refused(source: str) -> None:
    with pytest.raises(GrammarError, match="no text at all"):
        compile_dfa(parse(source))
