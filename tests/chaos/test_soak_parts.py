"""What a soak judges by: slopes of series, deaths in a log, faults that fit a time."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.deaths import own_deaths
from tests.chaos.faults import Kind
from tests.chaos.slopes import Allowance, Point, grows, trend_of
from tests.chaos.soak import soak_faults


def series(seconds: int, per_second: float, noise: float = 0.0, start: float = 100.0) -> list[Point]:
    rng = random.Random(1)
    return [Point(at, start + at * per_second + rng.uniform(-noise, noise)) for at in range(seconds)]


@given(st.floats(-5, 5), st.floats(0, 20))
def test_a_slope_is_found_under_noise(per_second: float, noise: float) -> None:
    trend = trend_of(series(400, per_second, noise))
    assert trend is not None
    assert abs(trend.per_hour / 3600 - per_second) < 0.02 * noise + 1e-6


def test_growth_is_told_from_none() -> None:
    leak, steady = trend_of(series(300, 0.5, 10)), trend_of(series(300, 0.0, 10))
    assert leak is not None
    assert steady is not None
    assert grows(leak, Allowance(24, 0.1))
    assert not grows(steady, Allowance(24, 0.1))
    assert not grows(leak, Allowance(24, 2.0))


def test_a_warm_up_and_spikes_are_no_growth() -> None:
    points = [Point(at, min(at, 50) * 10 + (5000 if at % 10 == 0 else 0)) for at in range(400)]
    trend = trend_of(points)
    assert trend is not None
    assert not grows(trend, Allowance(1.0))


def test_a_few_points_say_nothing() -> None:
    assert trend_of(series(12, 1.0)) is None


def test_deaths_that_nobody_caused() -> None:
    log = (
        "worker-0 ended with signal SIGKILL; starting it again in 0.5 s\n"
        "the embedded Redis ended with signal SIGKILL; starting it again\n"
        "12:00:00 worker-0: something ended with nothing\n"
        "scheduler-0 ended with exit code 1; starting it again in 1 s\n"
        "detokenizer-1 ended with signal SIGSEGV; starting it again\n"
    )
    assert own_deaths(log) == ["scheduler-0 ended with exit code 1", "detokenizer-1 ended with signal SIGSEGV"]


def test_a_soak_ends_when_its_time_is_over() -> None:
    faults = list(soak_faults(1, 0.05))
    assert faults
    assert {fault.kind for fault in faults} == {Kind.CUT}
    assert list(soak_faults(1, 0.0)) == []
