"""JSON Schema's ``pattern``: search, anchors, and ECMA-262 where it is not Python."""

from __future__ import annotations

import re
from random import Random

import pytest

from shared.grammar import Tables, tables
from tests.tokenizer_svc.grammar.patterns import mutated
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse_search


def automaton(pattern: str) -> Tables:
    return tables(compile_dfa(parse_search(pattern)))


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "a", "^a", "a$", "^a$", "^", "$", "^$", "^a|b$", "a|^b", "(^a|b)c", "a(b$|c)", "(^|,)a(,|$)", "^(a|b)*$"),
        *("(^a$|^b$)", "(^a)?b", "a(b$)?", "^^a$$", "((^)a)", "(a|(^|b)c)", "a*", "^a*", "(?:^a|b)(?:c|d$)", "(^|a|)b"),
    ],
)
def test_anchors_decide_what_may_stand_around_a_match(pattern: str) -> None:
    rng = Random(pattern)
    compiled = automaton(pattern)
    for _ in range(300):
        text = "".join(rng.choice("abcd,\n") for _ in range(rng.randint(0, 6)))
        # Python's $ also matches before a line feed at the end; its \Z is what $ is in ECMA-262.
        expected = re.search(pattern.replace("$", r"\Z"), text) is not None
        assert compiled.matches(text.encode()) == expected, text


@pytest.mark.parametrize(
    ("pattern", "matched", "refused"),
    [
        (r"^\s$", "\t\n\v\f\r \xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\ufeff", "\x1c\x85\u180e\u200ba"),
        (r"^\S$", "a\x85\u200b😀", "\xa0\ufeff\n"),
        (r"^.$", "a\x85\v😀", "\n\r\u2028\u2029"),
        (r"^\d$", "09", "\u0660\u096f"),
        (r"^\w$", "azAZ09_", "é-\u0660"),
        (r"^[^]$", "a\n😀", ""),
        (r"^a|[]$", "a", "]"),
        (r"^[\b]$", "\b", "b"),
        (r"^\cA|\cz$", "\x01\x1a", "A"),
        (r"^\/$", "/", "\\"),
        (r"^\u{1F600}$", "😀", "u"),
        (r"^\ud83d\ude00$", "😀", "\ufffd"),
        (r"^[\ud83d\ude00-\ud83d\ude02]$", "😀😁😂", "😃"),
        (r"^[\w-.]$", "a-.", ",/"),
        (r"^[\d-\s]$", "1- \ufeff", "a"),
        (r"^\0$", "\0", "0"),
        (r"^(?<year>x)$", "x", "y"),
        (r"^[a-z&&[b]$", "a&[b", "]A"),
        (r"^(\x41|\u0042|\-)$", "AB-", "C"),
    ],
)
def test_characters_are_those_of_ecma_262(pattern: str, matched: str, refused: str) -> None:
    compiled = automaton(pattern)
    assert [char for char in matched if not compiled.matches(char.encode())] == []
    assert [char for char in refused if compiled.matches(char.encode())] == []


@pytest.mark.parametrize(
    ("pattern", "matched", "refused"),
    [
        (r"^a{,2}$", ["a{,2}"], ["", "a", "aa"]),
        (r"^a{1,2}$", ["a", "aa"], ["", "aaa", "a{1,2}"]),
        (r"^x{a}]}$", ["x{a}]}"], ["x"]),
        (r"^\$ref$", ["$ref"], ["ref"]),
        (r"^f.*o$", ["foo", "f😀o"], ["f\no", "fo\n"]),
        (r"^(19|20)\d{2}-\d{2}$", ["1999-12"], ["2999-12", "1999-123"]),
    ],
)
def test_whole_patterns(pattern: str, matched: list[str], refused: list[str]) -> None:
    compiled = automaton(pattern)
    assert [text for text in matched if not compiled.matches(text.encode())] == []
    assert [text for text in refused if compiled.matches(text.encode())] == []


def test_a_match_may_stand_anywhere() -> None:
    rng = Random(1)
    compiled = automaton("b+c")
    for _ in range(500):
        text = mutated(rng.choice(("bc", "xbbc\n", "😀bcx", "b\nc")), rng)
        assert compiled.matches(text.encode()) == (re.search("b+c", text) is not None), text
