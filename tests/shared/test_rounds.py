"""A round that takes far too long is stuck; a slow one, a large one or a process that was stopped is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rounds import Pace, Rounds, Stuck, Watch

TICK = 0.25


def looked(watch: Watch, seconds: float, start: float = 0.0) -> list[Stuck | None]:
    """What one sees who looks four times a second for some time."""
    return [watch.look(start + tick * TICK) for tick in range(int(seconds / TICK) + 1)]


def known(rounds: Rounds, seconds: float, size: int = 1) -> Rounds:
    rounds.pace.took(size, seconds, 0.0)
    return rounds


def test_a_round_that_does_not_end_is_stuck_after_a_second_and_hopeless_after_the_time_out() -> None:
    rounds = known(Rounds(), 0.01)
    watch = Watch(rounds, patience=5)
    rounds.begin()
    seen = looked(watch, 6)
    assert seen[:4] == [None] * 4
    assert seen[4] == Stuck(1.0, hopeless=False)
    assert [stuck is not None and stuck.hopeless for stuck in seen].index(True) == int(5 / TICK) + 1


def test_rounds_that_follow_each_other_are_not_stuck() -> None:
    rounds = known(Rounds(), 0.01)
    watch = Watch(rounds, patience=5)
    for tick in range(100):
        rounds.begin()
        assert watch.look(tick * TICK) is None


def test_waiting_for_work_is_not_stuck() -> None:
    rounds = known(Rounds(), 0.01)
    watch = Watch(rounds, patience=5)
    rounds.begin()
    rounds.end()
    assert looked(watch, 100) == [None] * 401


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    rounds = known(Rounds(), 0.01)
    watch = Watch(rounds, patience=5)
    rounds.begin()
    watch.look(0.0)
    assert watch.look(3600.0) is None
    assert watch.look(3600.25) is None


def test_who_waits_for_redis_is_not_given_up_for_that() -> None:
    rounds = known(Rounds(), 0.01)
    watch = Watch(rounds, patience=5)
    rounds.begin()
    for tick in range(400):
        assert watch.look(tick * TICK, counts=False) is None
    assert looked(watch, 0.25, 100.0) == [None] * 2


@given(normal=st.floats(0.001, 100), size=st.integers(1, 10_000))
def test_the_limit_leaves_room_over_what_is_normal(normal: float, size: int) -> None:
    pace = Pace()
    pace.took(size, normal, 0.0)
    assert pace.limit(size) >= max(1.0, 2 * normal)
    assert pace.limit(8 * size) >= 8 * normal, "a prefill may take as much longer as it is larger"
    watch = Watch(known(Rounds(), normal, size), patience=1)
    rounds = watch._rounds  # pyright: ignore[reportPrivateUsage]
    rounds.begin(size)
    assert not any(stuck is not None and stuck.hopeless for stuck in looked(watch, min(4 * normal, 50)))


def test_what_was_long_ago_is_forgotten() -> None:
    pace = Pace()
    pace.took(1, 20.0, 0.0)
    assert pace.limit(1) == 80
    for now in (61.0, 122.0, 183.0):
        pace.took(1, 0.01, now)
    assert pace.limit(1) == 1


def test_what_others_took_says_nothing_of_own_work() -> None:
    rounds = Rounds()
    rounds.pace.took(0, 20.0, 0.0)
    rounds.pace.took(1, 0.01, 0.0)
    assert rounds.pace.limit(1) == pytest.approx(1.0)
