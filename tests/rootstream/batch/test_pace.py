"""How a batch keeps a server full without pushing it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rootstream.batch.asking import retry_after
from rootstream.batch.pace import LONGEST_PAUSE_S, Pace

EVENTS = st.lists(st.none() | st.tuples(st.integers(0, 300), st.none() | st.floats(-5, 1e9)))


@given(st.integers(1, 300), EVENTS)
def test_one_may_go_in_the_end_and_never_more_than_allowed(
    most: int, events: list[tuple[int, float | None] | None]
) -> None:
    pace, now = Pace(most), 0.0
    for event in events:
        now += 0.1
        if event is None:
            pace.answered()
        else:
            pace.refused(event[0], now, event[1])
            assert not pace.may_go(most, now)
    assert 1 <= pace.limit <= most
    assert pace.may_go(0, now + LONGEST_PAUSE_S)
    assert not pace.may_go(most, now + LONGEST_PAUSE_S)


def test_refusals_of_one_moment_count_once_and_answers_win_it_back() -> None:
    pace = Pace(64)
    for _ in range(64):
        pace.refused(64, 1.0, 2.0)
    assert pace.limit == 32
    assert not pace.may_go(0, 2.9)
    assert pace.may_go(31, 3.0)
    for _ in range(64 * 64):
        pace.answered()
    assert pace.limit == 64


def test_pauses_double_where_the_server_says_nothing() -> None:
    pace, now, pauses = Pace(8), 0.0, list[float]()
    for _ in range(4):
        pace.refused(1, now, None)
        pauses.append(pace.not_before - now)
        now = pace.not_before
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({"Retry-After": "3"}, 0) == 3
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50) == 10
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}, 90) == 0
    assert retry_after({"Retry-After": "soon"}, 0) is None
    assert retry_after({}, 0) is None
