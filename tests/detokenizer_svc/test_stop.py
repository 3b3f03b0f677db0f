"""The stop matcher against a naive reading of its own definition, however the text is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detokenizer_svc.stop import StopMatcher

stops = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=4)
texts = st.text(alphabet="abc", max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=10)


def naive(text: str, stops: list[str]) -> tuple[int, str] | None:
    """(end, stop) of the first stop string to be complete, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return end, max(complete, key=len)
    return None


def longest_possible_beginning(text: str, stops: list[str]) -> int:
    return max(
        (
            size
            for stop in stops
            for size in range(1, len(stop))
            if size <= len(text) and text.endswith(stop[:size])
        ),
        default=0,
    )  # fmt: skip


def pieces(text: str, cuts: list[int]) -> list[str]:
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


@given(texts, stops, cuts, st.booleans())
@example("xabab", ["abab"], [3], False)
@example("aabab", ["abab", "ba"], [1, 2, 3], False)
def test_equals_the_naive_search_on_any_split(text: str, stops: list[str], cuts: list[int], include: bool) -> None:
    matcher = StopMatcher(stops, include_stop=include)
    expected = naive(text, stops)
    shown, taken = "", ""
    for piece in pieces(text, cuts):
        taken += piece
        released, stop = matcher.push(piece)
        shown += released
        if stop is not None:
            assert expected is not None
            end, matched = expected
            assert stop == matched
            assert shown == text[: end if include else end - len(matched)]
            assert len(taken) - len(piece) < end <= len(taken)
            return
        assert shown == taken[: len(taken) - longest_possible_beginning(taken, stops)]
    assert expected is None
    assert shown + matcher.flush() == text


def test_longest_of_those_complete_together_wins() -> None:
    assert StopMatcher(["lo", "hello", "ello"]).push("say hello") == ("say ", "hello")


def test_the_first_to_be_complete_wins_over_a_longer_one() -> None:
    assert StopMatcher(["stop here", "op"]).push("now stop here") == ("now st", "op")


def test_text_after_the_stop_is_dropped() -> None:
    assert StopMatcher(["\n"], include_stop=True).push("one\ntwo\n") == ("one\n", "\n")


def test_an_abandoned_beginning_is_released_at_once() -> None:
    matcher = StopMatcher(["###"])
    assert matcher.push("a##").text == "a"
    assert matcher.push("b").text == "##b"
    assert matcher.flush() == ""


def test_empty_stop_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(["a", ""])
