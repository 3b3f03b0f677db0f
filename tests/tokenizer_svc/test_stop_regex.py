"""Stop patterns at the door: compiled, bounded, refused by position; and at work over real text."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detokenizer_svc.stop import StopMatcher
from shared.protocol import ProtocolError, StopRegex, Track, decode, encode
from tests.tokenizer_svc.downstream import Downstream
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.stop_regex import read_stop_regex

PATTERNS = ["ab", "a+b", "a(b|c)*d", "é[^a]b", "b{2,3}", "[ab]c|d", "(ab?)+c", "c."]


def naive(text: str, patterns: list[str]) -> tuple[int, int, str] | None:
    """(start, end, pattern): the match that ends first, of those the one that begins first."""
    for end in range(1, len(text) + 1):
        found = [
            (start, index)
            for index, pattern in enumerate(patterns)
            for start in range(end)
            if re.compile(pattern).fullmatch(text, start, end)
        ]
        if found:
            start, index = min(found)
            return start, end, patterns[index]
    return None


def read(*patterns: str) -> tuple[StopRegex, ...]:
    return read_stop_regex(patterns, 8, "stop_regex")


@given(
    text=st.text(alphabet="abcdé\n", max_size=30),
    patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True),
    cuts=st.lists(st.integers(0, 30), max_size=8),
    include=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=400)
def test_equals_the_naive_search_on_any_split(text: str, patterns: list[str], cuts: list[int], include: bool) -> None:
    expected = naive(text, patterns)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    matcher = StopMatcher([], read(*patterns), include_stop=include)
    shown = ""
    for first, last in pairwise(borders):
        released, stop = matcher.push(text[first:last])
        shown += released
        if stop is not None:
            assert expected is not None
            start, end, pattern = expected
            assert stop == pattern
            assert shown == text[: end if include else start]
            return
    assert expected is None
    assert shown + matcher.flush() == text


def test_strings_and_patterns_together() -> None:
    matcher = StopMatcher(["stop"], read(r"\d\d"))
    assert matcher.push("a1 st") == ("a1 ", None)
    assert matcher.push("art 1") == ("start ", None)
    assert matcher.push("2") == ("", r"\d\d")
    matcher = StopMatcher(["stop"], read(r"\d\d"))
    assert matcher.push("7 stop 12") == ("7 ", "stop")


def test_only_what_may_match_is_held_back() -> None:
    matcher = StopMatcher([], read("a+b"))
    assert matcher.push("xaa") == ("x", None)
    assert matcher.push("cy") == ("aacy", None)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a*", "empty text"),
        ("^a", "anchor"),
        ("(a|b$)", "anchor"),
        ("(", "character 0"),
        ("(?=a)", "look-ahead"),
        ("(a|b)*a(a|b){20}", "states"),
        ("x" * 513, "512"),
        ("a{101}", "100"),
    ],
)
def test_what_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ApiError) as refused:
        read(pattern)
    assert why in refused.value.body.message
    assert refused.value.body.param == "stop_regex"


def test_an_automaton_that_contradicts_itself_is_no_message() -> None:
    [regex] = read("ab")
    track = Track(1, "t", b"", stop_regex=(regex,))
    assert decode(encode(track)) == track
    for bad in (
        StopRegex("ab", regex.classes[:-1], regex.transitions, regex.accepting),
        StopRegex("ab", regex.classes, regex.transitions[:-2], regex.accepting),
        StopRegex("ab", regex.classes, b"\xff" * len(regex.transitions), regex.accepting),
        StopRegex("ab", regex.classes, b"", b""),
    ):
        with pytest.raises(ProtocolError):
            decode(encode(Track(1, "t", b"", stop_regex=(bad,))))


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "x", "stop_regex": "a+b"}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stop_regex": ["a+b"]}, None),
        ("/generate", {"text": "x", "sampling_params": {"stop_regex": ["a+b"]}}, None),
        ("/generate", {"text": "x", "sampling_params": {"stop_regex": "a*"}}, "sampling_params.stop_regex"),
        ("/v1/completions", {"prompt": "x", "stop_regex": ["a", "b", "c", "d", "e"]}, "stop_regex"),
    ],
)
async def test_every_api_takes_them(
    http: aiohttp.ClientSession, downstream: Downstream, path: str, body: dict[str, Any], param: str | None
) -> None:
    async with http.post(path, json=body) as response:
        answer = await response.json()
        assert response.status == (200 if param is None else 400), answer
    if param is not None:
        assert answer["error"]["param"] == param
        return
    [track] = downstream.received(Track)
    assert [regex.pattern for regex in track.stop_regex] == ["a+b"]
