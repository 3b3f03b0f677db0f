"""Who is fresh and who is dead, by what was read and when; and a clock that stands still with its process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.awake import TICK_S, AwakeClock
from shared.hearing import FRESH_S, STALE_S, Hearing, Last


def test_a_process_is_fresh_for_a_while_after_each_change() -> None:
    hearing: Hearing[int] = Hearing()
    hearing.read({}, 0.0)
    hearing.read({"a": 1}, 0.25)
    assert hearing.is_fresh("a", 0.25 + FRESH_S - 0.01)
    hearing.read({"a": 1}, 0.5)
    assert not hearing.is_fresh("a", 0.25 + FRESH_S)
    hearing.read({"a": 2}, 0.25 + FRESH_S)
    assert hearing.is_fresh("a", 0.25 + FRESH_S)


def test_what_lies_there_at_the_first_reading_proves_nothing() -> None:
    hearing: Hearing[int] = Hearing()
    hearing.read({"left by the dead": 1, "alive": 1}, 0.0)
    assert not hearing.is_fresh("alive", 0.0)
    hearing.read({"left by the dead": 1, "alive": 2}, 0.25)
    assert hearing.is_fresh("alive", 0.25)
    assert not hearing.is_fresh("left by the dead", 0.25)


def test_a_goodbye_is_heard_at_once_and_forgotten_later() -> None:
    hearing: Hearing[int] = Hearing()
    hearing.read({}, 0.0)
    hearing.read({"a": 1}, 0.25)
    hearing.read({}, 0.5)
    assert not hearing.is_fresh("a", 0.5)
    assert list(hearing.living()) == [1]
    for tick in range(3, 3 + int(STALE_S / 0.25) + 1):
        hearing.read({}, tick * 0.25)
    assert list(hearing.living()) == []


def test_the_last_of_the_dead_is_remembered() -> None:
    """Who keeps processes running must know how long one has been silent, not only that it is dead."""
    hearing: Hearing[int] = Hearing()
    for tick in range(81):
        hearing.read({"a": 1}, tick * 0.25)
    assert list(hearing.living()) == []
    assert hearing.last("a") == Last(1, 20.0)
    hearing.read({}, 20.25)
    assert hearing.last("a") is None


@given(st.lists(st.tuples(st.floats(0.05, 30.0), st.booleans()), max_size=40))
def test_only_silence_that_was_listened_to_makes_dead(readings: list[tuple[float, bool]]) -> None:
    """However long nothing could be read, as when Redis was away: that alone ends nobody."""
    hearing: Hearing[int] = Hearing()
    now, beat, unheard = 0.0, 0, 0.0
    hearing.read({"a": beat}, now)
    for pause, beats in readings:
        now += pause
        beat += beats
        unheard = 0.0 if beats else unheard + min(pause, 0.5)
        assert hearing.hears(now) == (pause < FRESH_S)
        hearing.read({"a": beat}, now)
        assert list(hearing.living()) == ([beat] if unheard <= STALE_S else [])
        assert hearing.is_fresh("a", now) <= (unheard < FRESH_S)


def test_the_clock_counts_only_what_it_was_awake_for() -> None:
    time = 100.0
    clock = AwakeClock(lambda: time)
    for _ in range(8):
        time += TICK_S
        clock.tick()
    assert clock.now() == 2.0
    time += 0.1
    assert abs(clock.now() - 2.1) < 1e-9
    time += 3600  # stopped by a signal
    assert clock.now() <= 2.0 + 2 * TICK_S
    clock.tick()
    time += TICK_S
    assert clock.now() <= 2.0 + 3 * TICK_S
