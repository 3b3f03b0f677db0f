"""Log-probabilities cut and joined: what is read of them is what lists would give."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import Scores
from shared.scores import TokenScores, count, covers, each, end, joined, packed, part, size_of

LOGPROB = st.floats(-50, 0, width=32)


@st.composite
def rows(draw: st.DrawFn) -> list[TokenScores]:
    """Of one request: consecutive, all as wide as the others."""
    first, size = draw(st.integers(0, 5)), draw(st.integers(1, 8))
    k, a = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    row = st.tuples(
        LOGPROB,
        st.integers(1, 320),
        st.lists(st.tuples(st.integers(0, 319), LOGPROB), min_size=k, max_size=k),
        st.lists(LOGPROB, min_size=a, max_size=a),
    )
    found = draw(st.lists(row, min_size=size, max_size=size))
    return [
        TokenScores(first + i, logprob, rank, tuple(top), tuple(asked))
        for i, (logprob, rank, top, asked) in enumerate(found)
    ]


@given(rows(), st.integers(0, 15), st.integers(0, 15))
def test_a_part_is_what_lies_between(given: list[TokenScores], start: int, stop: int) -> None:
    """Whatever is asked for, the positions in it that are there."""
    scores = packed(7, given)
    assert list(each(scores)) == given
    found = part(scores, start, stop)
    expected = [row for row in given if start <= row.position < stop]
    assert list(each(found)) == expected
    assert (count(found), end(found) - found.first) == (len(expected), len(expected))
    assert covers(scores, start, stop) == (len(expected) == max(0, stop - start))


@given(rows(), st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=5))
def test_parts_that_overlap_are_joined(given: list[TokenScores], cuts: list[tuple[int, int]]) -> None:
    """Positions known already are dropped, and what comes after a gap."""
    scores = packed(7, given)
    parts = [part(scores, *cut) for cut in cuts]
    expected: list[TokenScores] = []
    for found in parts:
        listed = list(each(found))
        if not listed:
            continue
        if expected and listed[0].position > expected[-1].position + 1:
            break
        expected += [row for row in listed if not expected or row.position > expected[-1].position]
    whole = joined(parts)
    assert (list(each(whole)) if whole else []) == expected


def test_what_is_as_wide_as_nothing_before_is_not_joined() -> None:
    """Of a broken sender: readers find a gap, and no column that fits no other."""
    one, two = struct.pack("<f", -1), struct.pack("<i", 2)
    assert joined([Scores(1, 0, one, two), Scores(1, 1, one, two, two, one)]) == Scores(1, 0, one, two)


def test_nothing() -> None:
    assert joined([]) is None
    assert joined([None, Scores(1, 4, b"", b"")]) is None
    assert list(each(None)) == []
    assert covers(None, 3, 3)
    assert not covers(None, 3, 4)
    assert size_of(None) == 0
