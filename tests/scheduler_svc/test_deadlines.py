"""Nobody works for a request that nobody wants any more."""

from __future__ import annotations

from scheduler_svc.deadlines import Deadlines
from scheduler_svc.limits import Limits
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


def test_deadlines_come_in_their_order_and_once() -> None:
    live = {1, 2, 3, 4}
    deadlines = Deadlines(live)
    for id, deadline in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 20.5)):
        deadlines.add(id, deadline)
    live.remove(2)
    assert deadlines.next == 20.0
    assert deadlines.due(19.9) == []
    assert deadlines.due(20.5) == [3, 4]
    assert deadlines.due(20.5) == []
    assert deadlines.next == 30.0


def test_deadlines_of_requests_that_ended_are_not_kept() -> None:
    live: set[int] = set(range(10))
    deadlines = Deadlines(live)
    for id in range(100_000):
        live.add(id)
        deadlines.add(id, 1e9 + id)
        live.discard(id - 10)
    assert len(deadlines._heap) < 200
    assert len(deadlines.due(2e9)) == 10


def test_what_waits_too_long_is_dropped_and_what_runs_too_long_ends() -> None:
    d = Deployment(card(64, 4, max_running=1), Limits(lease=4))
    d.submit(generate(1, [1] * 6, 60, deadline=2.0))
    d.submit(generate(2, [2] * 6, 60, deadline=1.0))
    d.submit(generate(3, [3] * 6, 6, deadline=9.0))
    d.round()
    for _ in range(10):
        d.forward()
        d.read()
    assert d.scheduler.next_deadline == 1.0
    d.scheduler.expire(1.5)
    d.deliver()
    assert (d.ends[2], d.outputs[2]) == (["timeout"], [])
    assert d.live == {1, 3}
    d.scheduler.expire(2.0)
    d.deliver()
    assert d.ends[1] == ["timeout"]
    assert 0 < len(d.outputs[1]) < 60
    d.run()
    assert d.outputs[3] == expected(d.requests[3])
    assert d.scheduler.next_deadline is None
    assert d.batch.cache.held == 0


def test_a_deadline_holds_while_there_is_no_worker() -> None:
    d = Deployment(card(64, 4), Limits())
    d.submit(generate(1, [1] * 6, 60, deadline=2.0))
    d.round()
    d.forward()
    d.read()
    d.scheduler.suspend()
    d.scheduler.expire(3.0)
    d.deliver()
    assert d.ends[1] == ["timeout"]
    d.reopen()
    d.run()
    assert not d.worker.rows
