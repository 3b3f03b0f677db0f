"""How many wait, from what one front door knows and what the scheduler said."""

from __future__ import annotations

from tokenizer_svc.backlog import Backlog, Waiting


def test_ones_own_count_at_once_and_others_by_the_schedulers_word() -> None:
    backlog = Backlog()
    backlog.note(3, 0, 100.0)
    assert backlog.waiting == 3
    backlog.note(5, 0, 100.4)
    backlog.hear(10, 100.2)  # seven of them are others'
    assert backlog.waiting == 12
    backlog.note(1, 4, 100.8)
    assert backlog.waiting == 8
    backlog.hear(10, 100.2)  # the same pulse again
    assert backlog.waiting == 8
    backlog.hear(1, 101.0)
    assert backlog.waiting == 1


def test_more_of_ones_own_than_the_scheduler_knows_makes_others_no_fewer_than_none() -> None:
    backlog = Backlog()
    backlog.note(5, 0, 100.0)
    backlog.hear(2, 100.1)
    assert backlog.waiting == 5


def test_history_is_short_however_much_happens() -> None:
    backlog = Backlog()
    for turn in range(200_000):
        backlog.note(turn % 7, turn, turn / 10_000)
    assert len(backlog._history) < 600


def test_who_is_refused_is_told_when_half_of_the_queue_is_served() -> None:
    backlog = Backlog()
    assert backlog.patience_s(50.0, 1, 30) == 1
    backlog.note(100, 0, 100.0)
    assert backlog.patience_s(100.0, 1, 30) == 30, "nothing has ended yet"
    for second in range(1, 21):
        backlog.note(100, 5 * second, 100.0 + second)
    assert backlog.patience_s(120.0, 1, 30) == 10
    assert backlog.patience_s(120.0, 1, 7) == 7
    backlog.note(2, 100, 120.5)
    assert backlog.patience_s(120.5, 1, 30) == 1


def test_who_has_fewer_waiting_than_another_may_try() -> None:
    waiting = Waiting()
    assert not waiting.is_modest("a")
    for id in (1, 2, 3):
        waiting.add(id, "a")
    waiting.add(4, "b")
    assert not waiting.is_modest("a")
    assert waiting.is_modest("b")
    waiting.add(5, "b")
    assert not waiting.is_modest("b")
    assert waiting.is_modest("c")
    for id in (1, 1, 2, 3, 4, 5, 6):
        waiting.discard(id)
    assert len(waiting) == len(waiting._counts) == 0
