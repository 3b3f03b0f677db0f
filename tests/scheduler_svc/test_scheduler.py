"""Scheduler against a simulated worker that notices every wrong use of a KV page."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.policy import Policy
from scheduler_svc.scheduler import Limits
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


def prompt(random: Random, longest: int = 60) -> list[int]:
    """A prompt that often shares a prefix with others."""
    stem = Random(random.randint(0, 2))
    shared = [stem.randint(0, 4) for _ in range(random.choice([0, 3, 8, 17, 33]))]
    return (shared + [random.randint(0, 4) for _ in range(random.randint(1, longest))])[:longest]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    page_size=st.sampled_from([1, 4, 16]),
    pages_tokens=st.sampled_from([96, 160, 640]),
    lease=st.sampled_from([1, 3, 16]),
    chunk_tokens=st.sampled_from([5, 16, 64]),
    radix_cache=st.sampled_from([True, True, True, False]),
    policy=st.sampled_from(list(Policy)),
)
def test_random_histories_end_every_request_once_with_its_own_tokens(
    seed, page_size, pages_tokens, lease, chunk_tokens, radix_cache, policy
):
    random = Random(seed)
    d = Deployment(
        card(pages_tokens // page_size, page_size, max_running=6, chunk_tokens=chunk_tokens),
        Limits(lease=lease, policy=policy, radix_cache=radix_cache),
        random,
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
                arrived=d.now,
            )
            d.submit(request)
            if random.random() < 0.2:
                d.scheduler.submit(request, d.now)
        elif what < 0.42 and d.requests:
            d.abort(random.choice(list(d.requests)), notify=random.random() < 0.5)
        elif what < 0.44:
            d.scheduler.cache.flush()
        elif what < 0.46:
            d.reopen()
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
    assert d.scheduler.cache.held == 0
    assert not d.worker.rows or all(id not in d.live for id in d.worker.rows)
