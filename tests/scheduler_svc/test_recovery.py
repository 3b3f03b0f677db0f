"""Which Steps count, and what may be trimmed."""

from __future__ import annotations

from scheduler_svc.recovery import StepLog
from scheduler_svc.trimming import Trimming
from shared.protocol import Hello, Message, Opened, Step
from tests.scheduler_svc.simulated import card


def step(epoch: int) -> Step:
    return Step(epoch=epoch, seq=0, plan=0)


def counted(messages: list[Message]) -> list[int]:
    """Positions of the Steps that a reader who starts at the head of the log counts."""
    log = StepLog()
    log.start(messages)
    found: list[int] = []
    for position, message in enumerate(messages):
        match message:
            case Step() if log.counts(message):
                found.append(position)
            case Opened():
                log.on_opened(message)
            case _:
                pass
    return found


def test_a_step_counts_between_its_opened_and_the_next() -> None:
    assert counted([Opened(1, 1), step(1), step(0), Opened(2, 1), step(1), step(2), Opened(3, 2), step(3)]) == [1, 5, 7]


def test_at_the_head_of_a_trimmed_log_the_newest_epoch_counts() -> None:
    assert counted([step(1), step(2), step(1), step(2), Opened(3, 1), step(2), step(3)]) == [1, 3, 6]


def test_with_an_empty_log_the_first_step_says_which_epoch_it_is() -> None:
    log = StepLog()
    log.start([])
    assert log.counts(step(4))
    assert not log.counts(step(3))


def test_a_worker_that_says_hello_twice_is_no_news() -> None:
    log = StepLog()
    assert log.on_hello(Hello(5, card()))
    assert not log.on_hello(Hello(5, card()))
    assert log.on_hello(Hello(4, card())), "clocks may go back"
    assert log.hello == Hello(4, card())


def test_the_step_log_is_kept_for_live_requests_and_readers() -> None:
    trimming = Trimming()
    assert trimming.steps("30-0", 0.0) == "30-0"
    trimming.started(1, "9-5")
    trimming.started(1, "20-0")
    trimming.started(2, "10-0")
    assert trimming.steps("30-0", 0.0) == "9-5"
    trimming.ended(1)
    assert trimming.steps("30-0", 0.0) == "10-0"
    trimming.needs("d0", "9-10", 0.0)
    assert trimming.steps("30-0", 59.0) == "9-10"
    assert trimming.steps("30-0", 61.0) == "10-0", "a reader that is gone is not waited for for ever"


def test_plans_are_kept_until_they_are_applied() -> None:
    trimming = Trimming()
    for seq in range(1, 4):
        trimming.planned(seq, f"{seq}-0")
    assert trimming.acknowledged(0) is None
    assert trimming.acknowledged(2) == "2-0"
    assert trimming.acknowledged(2) is None
    trimming.opened()
    assert trimming.acknowledged(3) is None
