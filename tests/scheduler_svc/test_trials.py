"""A request that kills its worker ends alone, and soon; nobody else is ever blamed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.limits import Limits
from shared.protocol import Failure
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate

POISON = 99


def deployment(random: Random | None = None, **limits: int) -> Deployment:
    return Deployment(card(400, 4, max_running=24, chunk_tokens=32), Limits(**limits), random or Random(0), checked=0.2)


def submit_innocents(d: Deployment, count: int = 20, max_tokens: int = 30) -> None:
    """Some of them, and the poisonous request, share a prefix."""
    for id in range(1, count + 1):
        d.submit(generate(id, [1] * 9 * (id % 2) + [id % 5, id // 5, 3], max_tokens))


def submit_poison(d: Deployment, token: int) -> None:
    d.worker.deadly[POISON] = token
    d.submit(generate(POISON, [1] * 9 + [4, 4, 4], 40))


def advance(d: Deployment, steps: int) -> None:
    for _ in range(steps):
        d.round()
        d.forward()
        while d.steps:
            d.read()


def assert_innocents_served(d: Deployment) -> None:
    for id, request in d.requests.items():
        if id != POISON:
            assert (d.ends[id], d.outputs[id]) == (["length"], expected(request))
    assert d.batch.cache.held == 0


@pytest.mark.parametrize(("token", "deaths"), [(0, 2), (1, 3), (17, 3)])
def test_a_lone_poisonous_request_costs_two_deaths_and_one_that_gave_it_hope(token: int, deaths: int) -> None:
    d = deployment()
    submit_poison(d, token)
    d.run()
    assert (d.ends[POISON], d.deaths) == ([Failure.POISONOUS], deaths)
    assert d.outputs[POISON] == expected(d.requests[POISON])[:token]
    assert not d.batch.rows


@pytest.mark.parametrize("token", [0, 1, 17])
@pytest.mark.parametrize("lease", [1, 16])
def test_in_a_crowd_that_starts_with_it_the_poisonous_one_is_found(token: int, lease: int) -> None:
    d = deployment(lease=lease)
    submit_innocents(d)
    submit_poison(d, token)
    d.run()
    assert d.ends[POISON] == [Failure.POISONOUS]
    assert d.deaths <= (3 if token == 0 else 4)
    assert_innocents_served(d)


def test_one_that_comes_to_a_crowd_at_work_costs_two_deaths() -> None:
    d = deployment()
    submit_innocents(d, 19)
    advance(d, 12)
    submit_poison(d, 0)
    d.run()
    assert (d.ends[POISON], d.deaths) == ([Failure.POISONOUS], 2)
    assert_innocents_served(d)


def test_two_poisonous_requests_are_found_one_after_the_other() -> None:
    d = deployment()
    submit_innocents(d, 10)
    submit_poison(d, 0)
    d.worker.deadly[98] = 0
    d.submit(generate(98, [1] * 9 + [2, 2, 2], 40))
    d.run()
    assert d.ends[POISON] == d.ends.pop(98) == [Failure.POISONOUS]
    del d.requests[98]
    assert_innocents_served(d)
    assert d.deaths <= 6


def test_who_comes_after_a_death_waits_until_the_suspects_are_cleared() -> None:
    d = deployment()
    submit_innocents(d, 6)
    d.round()
    d.die()
    assert d.batch.rows == 1
    d.submit(generate(50, [2] * 5, 3))
    order: list[int] = []
    while d.live:
        advance(d, 1)
        order += [id for id, output in d.outputs.items() if output and id not in order]
    assert sorted(order[:6]) == [1, 2, 3, 4, 5, 6]
    assert_innocents_served(d)


def test_a_suspect_that_is_aborted_does_not_hold_up_the_others() -> None:
    d = deployment()
    submit_innocents(d, 6)
    d.round()
    d.die()
    [tried] = d.batch._rows
    d.abort(tried.id)
    d.abort(next(iter(d.live - {tried.id})))
    d.run()
    assert [ends for ends in d.ends.values() if ends == ["abort"]] == [["abort"]] * 2


def test_a_death_that_one_may_have_done_who_has_ended_is_blamed_on_nobody() -> None:
    d = deployment()
    for id in (1, 2):
        d.submit(generate(id, [id] * 9, 5))
    d.round()
    d.abort(2)
    d.die()
    d.die()
    d.run()
    assert d.ends[1] == ["length"], "only the second was surely its own"


def test_a_token_wipes_out_the_blame() -> None:
    d = deployment()
    d.submit(generate(1, [1] * 5, 50))
    for _ in range(4):
        d.round()
        d.die()  # blamed
        advance(d, 3)  # cleared
        d.die()
        assert d.live
    d.run()
    assert d.ends[1] == ["length"]


def test_a_worker_that_starts_twice_is_one_death() -> None:
    d = deployment()
    d.submit(generate(1, [1] * 5, 5))
    d.round()
    d.scheduler.on_death()
    d.scheduler.suspend()
    d.scheduler.on_death()
    d.reopen()
    d.run()
    assert d.ends[1] == ["length"]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    pages=st.sampled_from([60, 400]),
    lease=st.sampled_from([1, 16]),
    longest_run=st.sampled_from([0, 5]),
)
def test_random_deaths_are_never_the_end_of_a_request_that_gets_on(
    seed: int, pages: int, lease: int, longest_run: int
) -> None:
    """Kills at any moment, but not twice while the same request is alone and has not got a token since the first."""
    random = Random(seed)
    d = Deployment(
        card(pages, 4, max_running=12, chunk_tokens=16), Limits(lease=lease), random, longest_run, checked=0.1
    )
    struck: dict[int, int] = {}  # how long its output was when it was hit alone
    for turn in range(160):
        if random.random() < 0.3:
            length, tenant = random.randint(1, 20), random.choice(["", "", "b"])
            d.submit(generate(turn + 1, [random.randint(0, 1) for _ in range(length)], 20, tenant=tenant))
        if random.random() < 0.7:
            d.round()
            d.forward(plans=random.choice([0, 1, 2]))
        while d.steps and random.random() < 0.7:
            d.read()
        if random.random() < 0.15:
            while d.steps:
                d.read()
            d.scheduler.check()
            fresh = [row.id for row in d.batch._rows if not row.is_cleared]
            if len(fresh) != 1 or struck.get(fresh[0]) != len(d.outputs[fresh[0]]):
                struck |= {id: len(d.outputs[id]) for id in fresh if len(fresh) == 1}
                d.die()
    d.run()
    assert d.deaths > 5
    for id, request in d.requests.items():
        assert (d.ends[id], d.outputs[id]) == (["length"], expected(request))
