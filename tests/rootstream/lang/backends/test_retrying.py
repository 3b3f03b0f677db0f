"""When calls are made again."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.lang.backends.retrying import LONGEST_S, NEVER_THERE_S, Passing, Patience, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def passing(after_s: float | None = None, status: int | None = 503) -> Passing:
    return Passing("not now", status, after_s=after_s)


@given(
    st.integers(0, 99),
    st.lists(st.none() | st.floats(0, 20), max_size=60),
    st.floats(0, 100),
    st.none() | st.floats(0, 100),
)
def test_attempts_end_in_time_and_never_come_before_the_server_wants(
    seed: int, afters: list[float | None], most_s: float, until: float | None
) -> None:
    patience, now = Patience(most_s, until, random.Random(seed)), 0.0
    for after in afters:
        wait = patience.wait(now, passing(after), known=True)
        if wait is None:
            return
        assert wait >= (after or 0)
        assert wait <= max(LONGEST_S, 1.25 * (after or 0))
        now += wait
        assert now <= most_s
        assert until is None or now < until


def test_a_server_that_never_answered_is_given_up_soon() -> None:
    for known, least, most in ((False, 0.3, NEVER_THERE_S), (True, 50, 60)):
        patience, now = Patience(60, None, random.Random(0)), 0.0
        while (wait := patience.wait(now, passing(status=None), known=known)) is not None:
            now += wait
        assert least <= now <= most


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"3", 3),
        (b" 1.5 ", 1.5),
        (b"-1", 0),
        (b"Thu, 01 Jan 2026 00:00:07 GMT", 7),
        (b"Wed, 31 Dec 2025 00:00:07 GMT", 0),
        (b"soon", None),
        (b"nan", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_retry_after(value: bytes, seconds: float | None) -> None:
    assert retry_after({b"retry-after": value}, NOW) == seconds
