"""Threads give way to other programs and come back when the cores are free."""

from __future__ import annotations

from gpu_worker.kernels.thread_policy import ThreadPolicy


class Machine:
    """``cores`` of which other programs keep some busy; every pass takes 30 ms."""

    def __init__(self, cores: int) -> None:
        self.policy = ThreadPolicy(cores)
        self.cores = cores
        self.busy = 0.0
        self.now = 0.0
        self.counts: list[int] = []

    def run(self, seconds: float) -> None:
        self.counts = []
        end = self.now + seconds
        while self.now < end:
            threads = self.policy.count
            share = min(1.0, self.cores / (threads + self.busy))  # every runnable thread gets the same
            self.now += 0.03
            self.counts.append(threads)
            self.policy.observe(0.03, 0.03 * threads * share, self.now)


def test_all_threads_on_free_cores() -> None:
    machine = Machine(2)
    machine.run(60)
    assert set(machine.counts) == {2}


def test_one_thread_beside_a_busy_program_and_two_afterwards() -> None:
    machine = Machine(2)
    machine.busy = 1
    machine.run(100)
    assert machine.counts[-1] == 1
    assert machine.counts.count(2) < 0.02 * len(machine.counts), "tries become rare"
    machine.busy = 0
    machine.run(40)
    assert machine.counts[-1] == 2


def test_little_work_beside_changes_nothing() -> None:
    machine = Machine(2)
    machine.busy = 0.3
    machine.run(60)
    assert set(machine.counts) == {2}


def test_many_cores_lose_about_as_many_threads_as_are_taken() -> None:
    machine = Machine(16)
    machine.busy = 4
    machine.run(30)
    assert 10 <= machine.counts[-1] <= 13
    machine.busy = 0
    machine.run(120)
    assert machine.counts[-1] == 16


def test_never_fewer_than_one() -> None:
    machine = Machine(2)
    machine.busy = 50
    machine.run(60)
    assert min(machine.counts) == 1


def test_short_passes_are_judged_together_and_one_burst_is_forgiven() -> None:
    policy = ThreadPolicy(2)
    for _ in range(7):
        policy.observe(0.03, 0.0, 0.0)
        assert policy.count == 2
    policy.observe(0.03, 0.0, 0.02)
    assert policy.count == 1


def test_a_slow_start_after_a_pause_costs_no_thread() -> None:
    policy = ThreadPolicy(2)
    policy.observe(0.03, 0.03, 0.0)  # the second thread is still waking up
    for number in range(100):
        policy.observe(0.03, 0.06, 0.03 * number)
        assert policy.count == 2


def test_two_bursts_with_quiet_between_them_are_forgiven() -> None:
    policy = ThreadPolicy(2)
    for used in (0.1, 0.4, 0.1, 0.4):
        policy.observe(0.2, used, 0.0)
    assert policy.count == 2
