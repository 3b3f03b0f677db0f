"""Scheduler against a simulated worker that notices every wrong use of a KV page."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.limits import Limits
from scheduler_svc.policy import Policy
from shared import columns
from shared.protocol import Admitted, Failed, Finish, Restated
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


def prompt(random: Random, longest: int = 60) -> list[int]:
    """A prompt that often shares a prefix with others."""
    stem = Random(random.randint(0, 2))
    shared = [stem.randint(0, 4) for _ in range(random.choice([0, 3, 8, 17, 33]))]
    return (shared + [random.randint(0, 4) for _ in range(random.randint(1, longest))])[:longest]


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    page_size=st.sampled_from([1, 4, 16]),
    pages_tokens=st.sampled_from([96, 160, 640]),
    lease=st.sampled_from([1, 3, 16]),
    chunk_tokens=st.sampled_from([5, 16, 64]),
    radix_cache=st.sampled_from([True, True, True, False]),
    policy=st.sampled_from(list(Policy)),
    longest_run=st.sampled_from([0, 0, 2, 9, 30]),
    checked=st.sampled_from([1.0, 0.05, 0.0]),
)
def test_random_histories_end_every_request_once_with_its_own_tokens(
    seed, page_size, pages_tokens, lease, chunk_tokens, radix_cache, policy, longest_run, checked
):
    random = Random(seed)
    d = Deployment(
        card(pages_tokens // page_size, page_size, max_running=6, chunk_tokens=chunk_tokens),
        Limits(lease=lease, policy=policy, radix_cache=radix_cache),
        random,
        longest_run,
        checked,
    )
    for turn in range(random.randint(5, 80)):
        what = random.random()
        if what < 0.35:
            request = generate(
                turn + 1,
                prompt(random),
                random.randint(1, 36),
                namespace=random.choice(["", "", "other"]),
                stop=random.choice([None, None, 0]),
                priority=random.choice([0, 0, 1]),
                tenant=random.choice(["", "", "", "b", "c"]),
                arrived=d.now,
                group=random.choice(["", "g", "h"]),
                context=random.choice(["", "", f"c{turn}", "again"]),
            )
            d.submit(request)
            if random.random() < 0.2:
                d.scheduler.submit(request, d.now)
        elif what < 0.42 and d.requests:
            d.abort(random.choice(list(d.requests)), notify=random.random() < 0.5)
        elif what < 0.44:
            d.batch.cache.flush()
        elif what < 0.46:
            d.reopen()
        elif what < 0.48:
            d.scheduler.release([random.choice(["again", f"c{random.randint(0, turn)}"]) for _ in range(3)])
        elif what < 0.5 and d.live:
            d.worker.failures[random.choice(list(d.live))] = "broken row"
        elif what < 0.8:
            d.forward(plans=random.choice([0, 1, 2, 9]), burst=random.choice([1, 1, 4]))
        if random.random() < 0.6:
            d.round()
        while d.steps and random.random() < 0.6:
            d.read()
    d.run()
    for id, request in d.requests.items():
        assert len(d.ends[id]) == 1
        whole = expected(request)
        if d.ends[id][0] in ("stop", "length"):
            assert d.outputs[id] == whole
        else:
            assert d.outputs[id] == whole[: len(d.outputs[id])]
    assert d.batch.cache.held == 0
    assert not d.worker.rows or all(id not in d.live for id in d.worker.rows)


def test_under_pressure_the_youngest_row_makes_room_and_comes_back() -> None:
    d = Deployment(card(20, 4, max_running=4, chunk_tokens=64), Limits(lease=4))
    for id in range(1, 5):
        d.submit(generate(id, [id] * 4, 40))
    d.run()
    assert d.scheduler.stats.preemptions > 0
    for id, request in d.requests.items():
        assert d.outputs[id] == expected(request)
    chunks = [id for id, _, _ in d.worker.computed]
    assert chunks.count(1) == 1, "the oldest was never preempted"
    assert chunks.count(4) > 1


def test_a_lower_priority_is_preempted_before_a_younger_request() -> None:
    d = Deployment(card(16, 4, max_running=4, chunk_tokens=64), Limits(lease=4))
    d.submit(generate(1, [1] * 4, 40, priority=0))
    d.submit(generate(2, [2] * 4, 40, priority=1))
    d.run()
    chunks = [id for id, _, _ in d.worker.computed]
    assert chunks.count(2) == 1
    assert chunks.count(1) > 1


def test_a_request_as_large_as_the_pool_runs_to_its_end_whatever_is_cached() -> None:
    d = Deployment(card(16, 4, chunk_tokens=64), Limits())
    d.ask(generate(1, [1] * 40, 10))
    d.ask(generate(2, [1] * 40, 25))
    d.ask(generate(3, [1, 2] * 28, 9))
    assert [d.ends[id] for id in (1, 2, 3)] == [["length"]] * 3
    d.submit(generate(4, [1] * 40, 26))
    d.round()
    assert d.ends[4] == ["too_large"]


def test_with_a_lease_of_one_the_worker_is_one_slot_ahead_at_most() -> None:
    d = Deployment(card(64, 4), Limits(lease=1))
    d.submit(generate(1, [1] * 6, 12))
    d.round()
    d.forward()
    while d.steps:
        d.read()
        [row] = d.worker.rows.values() or [None]
        if row is None:
            break
        assert not d.worker.inbox or len(d.worker.inbox) == 1
        known = row.prompt_len + len(d.outputs[1]) - 1
        granted = max([row.limit, *(columns.as_int32(plan.grant_limits).tolist()[0] for plan in d.worker.inbox)])
        assert granted == min(known + 1, row.prompt_len + 12 - 1)
        d.forward()
    assert d.outputs[1] == expected(d.requests[1])


def test_with_a_lease_rows_run_on_while_the_scheduler_is_away() -> None:
    d = Deployment(card(64, 4), Limits(lease=8))
    for id in (1, 2):
        d.submit(generate(id, [id] * 6, 40))
    d.round()
    for _ in range(20):
        d.forward()
    assert [len(row.tokens) - row.prompt_len for row in d.worker.rows.values()] == [9, 9]
    assert not d.worker.busy
    d.run()
    assert d.batch.seq < 20, "a plan for every token, in spite of the leases"


def test_at_most_two_chunk_plans_are_outstanding() -> None:
    d = Deployment(card(400, 4, max_running=8, chunk_tokens=16), Limits())
    for id in range(1, 7):
        d.submit(generate(id, [id % 5, id // 5] * 40, 4))
    while d.live:
        d.round()
        assert sum(bool(plan.chunk_ids) for plan in d.worker.inbox) <= 2
        d.forward()
        d.read()


def test_an_aborted_row_frees_its_pages_within_two_steps() -> None:
    d = Deployment(card(64, 4, chunk_tokens=8), Limits(radix_cache=False))
    d.submit(generate(1, [1] * 64, 8))
    d.submit(generate(2, [2] * 6, 80))
    for _ in range(3):
        d.round()
        d.forward()
        d.read()
    for id in (1, 2):
        d.abort(id)
    d.round()
    for _ in range(2):
        d.forward()
        d.read()
    assert d.batch.cache.pool.available == 64
    d.forward()
    assert not d.worker.rows


def test_tokens_of_a_stale_epoch_and_tokens_twice_are_ignored() -> None:
    d = Deployment(card(64, 4), Limits())
    d.submit(generate(1, [1] * 6, 12))
    d.round()
    step = d.worker.step()
    for _ in range(3):
        d.scheduler.on_step(step, 0.0)
    stale = msgspec.structs.replace(d.worker.step(), epoch=99)
    d.scheduler.on_step(stale, 0.0)
    [request] = d.scheduler._requests.values()
    assert list(request.output) == expected(d.requests[1])[:1]


def test_after_a_hole_in_the_token_log_the_rest_is_computed_again() -> None:
    d = Deployment(card(64, 4), Limits())
    d.submit(generate(1, [1] * 6, 12))
    d.submit(generate(2, [2] * 6, 1))
    d.round()
    d.worker.step()  # lost
    d.scheduler.on_step(d.worker.step(), 0.0)
    d.deliver()
    assert d.scheduler.torn
    d.reopen()
    assert not d.scheduler.torn
    d.run()
    assert d.ends == {1: ["length"], 2: ["length"]}
    assert all(d.outputs[id] == expected(d.requests[id]) for id in (1, 2))


def test_a_known_request_announced_again_runs_once() -> None:
    d = Deployment(card(64, 4), Limits())
    d.ask(generate(1, [1] * 6, 3))
    d.scheduler.submit(d.requests[1], 1.0)
    assert d.scheduler.plan(1.0) is None
    assert d.scheduler.waiting == 0
    assert d.scheduler.outbox.drain().ended == [1], "its record, which was written again, goes again"


def test_who_announces_again_is_told_again() -> None:
    d = Deployment(card(64, 4), Limits())
    d.submit(generate(1, [1] * 9, 3))
    d.submit(generate(2, [2] * 5000, 3))
    d.round()
    for id in (1, 2):
        d.scheduler.submit(msgspec.structs.replace(d.requests[id], reply_to="another"), 1.0)
    out = d.scheduler.outbox.drain()
    assert {(to, type(message)) for to, message in out.replies} == {("another", Admitted), ("another", Failed)}
    assert d.scheduler.owners == {"another"}
    d.run()


def test_tokens_can_be_told_again() -> None:
    d = Deployment(card(64, 4), Limits())
    output = d.ask(generate(1, [1] * 6, 3))
    d.submit(generate(2, [2] * 6, 3))
    d.round()
    d.forward()
    d.read()
    d.scheduler.restate([1, 2, 77])
    ended, running = d.scheduler.outbox.drain().restated
    assert ended == Restated(1, columns.int32(output), Finish.LENGTH)
    assert running == Restated(2, columns.int32(d.outputs[2]))
    d.run()


def test_nobody_starves_behind_a_stream_of_cached_prompts() -> None:
    d = Deployment(card(400, 4, max_running=1, chunk_tokens=256), Limits())
    d.ask(generate(1, [1] * 200, 1))
    d.submit(generate(2, [2] * 50, 2, arrived=0.0))
    for turn in range(100):
        d.now += 0.1
        d.submit(generate(100 + turn, [1] * 200 + [turn % 5], 2, arrived=d.now))
        d.submit(generate(300 + turn, [1] * 200 + [turn % 5, 3], 2, arrived=d.now))
        d.forward()
        d.read()
        if d.ends[2]:
            break
    assert d.ends[2] == ["length"]
    assert turn > 1, "the cached ones went first for a while"


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), page_size=st.sampled_from([1, 4]), lease=st.sampled_from([4, 16]))
def test_preempted_rows_go_on_where_they_were(seed, page_size, lease):
    """Long outputs in little memory, and plans that reach the worker late."""
    random = Random(seed)
    d = Deployment(card(72 // page_size, page_size, max_running=6, chunk_tokens=32), Limits(lease=lease), random)
    preemptions = 0
    for turn in range(120):
        if d.scheduler.stats.preemptions > preemptions and random.random() < 0.7:
            preemptions = d.scheduler.stats.preemptions
            for id in sorted(d.live)[:-1]:  # room for the victim, at the worst moment
                d.abort(id)
        elif len(d.live) < 6:
            tenant = random.choice(["", "", "b"])
            d.submit(generate(turn + 1, prompt(random, 8), random.randint(20, 60), tenant=tenant))
        elif random.random() < 0.06:
            d.abort(random.choice(sorted(d.live)))
        d.round()
        d.forward(plans=random.choice([0, 1, 1, 2]))
        while d.steps and random.random() < 0.55:
            d.read()
    d.run()
    for id, request in d.requests.items():
        assert d.ends[id] in (["abort"], ["length"])
        assert d.outputs[id] == expected(request)[: len(d.outputs[id])]
    assert d.batch.cache.held == 0


def test_a_preempted_row_comes_back_only_when_the_worker_has_let_go() -> None:
    d = Deployment(card(64, 4), Limits(lease=8))
    d.submit(generate(1, [1] * 6, 30))
    d.round()
    d.forward()
    d.read()
    d.submit(generate(2, [2] * 6, 30))
    d.round()
    [first, _] = d.batch._rows
    d.batch._preempt(first)
    d.round()
    d.forward(plans=1)  # the admission of 2, not yet the release of 1, which goes on
    d.forward(plans=0)
    d.read()
    assert not any(admit.id == 1 for plan in d.worker.inbox for admit in plan.admits)
    d.run()
    for id in (1, 2):
        assert d.outputs[id] == expected(d.requests[id])
